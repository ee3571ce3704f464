"""Reports: what machines that build for others hand over of their failures, and how the bot keeps count of them.

An attempt is counted before it begins, by the machine that plans; the one that promotes says how it ended.
"""

import datetime as dt
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from bot.config import Config
from bot.context import Context
from bot.errors import PhiBotError, RecordError
from bot.records.artifacts import Failure, Report
from bot.records.plans import Job
from bot.state.store import Store, store_of
from bot.system.workflow_run import run_address
from bot.workspace import read_record

_MOST, _BYTES = 1000, 20_000_000  # reports, and bytes of one: they come from machines that read strangers' files
_MOST_FAILURES = 10_000
_EXIT_CODES = range(1, 256)


def failures_in(folder: Path) -> tuple[Failure, ...]:
    """Return the failures of all reports (*.json) below a folder.

    Raises RecordError for a file that is not a report, and where there are more failures than builds can be.
    """
    found: list[Failure] = []
    files = sorted(p for p in folder.rglob("*.json") if p.is_file() and not p.is_symlink())
    if len(files) > _MOST:
        raise RecordError(f"{folder} holds {len(files)} reports", hint=f"A run has {_MOST} of them at most.")
    for file in files:
        if file.stat().st_size > _BYTES:
            raise RecordError(f"{file.name} has more than {_BYTES} bytes", hint="Is it the output of `phi-bot run`?")
        found += read_record(file, Report).failures
        if len(found) > _MOST_FAILURES:
            raise RecordError(
                f"{folder} holds more than {_MOST_FAILURES} failures", hint="Which program wrote these reports?"
            )
        if any(one.exit_code not in _EXIT_CODES for one in found):
            raise RecordError(
                f"{file.name} gives a failure an exit code that does not exist", hint="Which program wrote this report?"
            )
    return tuple(found)


def begin(jobs: Sequence[Job], store: Store, config: Config) -> None:
    """Count an attempt at each variant, before other machines begin with them. Raises what a commit raises."""
    now, most, address = dt.datetime.now(dt.UTC), config.run.attempts, run_address(os.environ)
    for label, group in groupby(jobs, key=lambda job: job.release.label):
        planned = [v for job in group for v in job.variants]
        store.update(
            lambda memory, label=label, planned=planned: memory.begun(  # type: ignore[misc]
                label, planned, now=now, most=most, run=address
            ),
            f"Begin with {label}",
        )


def count(built: Sequence[Failure], report: Report, context: Context) -> None:
    """Remember how attempts ended: forget those at variants that are published now, keep the failures of the others.

    An error in doing so is told, and fails nothing: the publications count.
    """
    if not built and not report.publications:
        return
    config = context.config
    now, most = dt.datetime.now(dt.UTC), config.run.attempts
    published = [b.build.build_key for p in report.publications for b in p.builds]
    failures = (*built, *report.failures)
    try:
        store = store_of(context.hub, config.namespace("without a namespace nothing is remembered"), config)
        store.update(
            lambda memory: memory.forget(published).failed(failures, now=now, most=most), "Keep what came of it"
        )
    except PhiBotError as error:
        context.display.say(f"Not remembered: {error.message}")
