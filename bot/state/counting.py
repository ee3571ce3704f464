"""Counted: an attempt at every variant of a release, written down before it is made, and how it ended."""

import datetime as dt
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bot.context import Context
from bot.errors import Interrupted, PhiBotError
from bot.records.artifacts import Report
from bot.records.failures import CutShortError
from bot.records.plans import Job, PlannedVariant
from bot.state.memory import Memory
from bot.state.store import Store
from bot.system.workflow_run import run_address


@contextmanager
def counting_attempts(jobs: Sequence[Job], store: Store | None, context: Context) -> Iterator[list[Report]]:
    """Count an attempt at every variant of a release, and keep what came of it: the block appends its report."""
    outcome: list[Report] = []
    if store is None:
        yield outcome
        return
    planned: tuple[PlannedVariant, ...] = tuple(v for job in jobs for v in job.variants)
    label, most = jobs[0].release.label, context.config.run.attempts

    def keep(change: Callable[[Memory], Memory], message: str) -> None:
        try:
            store.update(change, message)
        except PhiBotError as error:  # what is published counts, and not what is remembered of it
            context.display.say(f"Not remembered: {error.message}")

    address = run_address(os.environ)
    keep(
        lambda memory: memory.begun(label, planned, now=_now(), most=most, run=address),
        f"Begin with {label}",
    )
    try:
        yield outcome
    except KeyboardInterrupt as error:
        report = error.report if isinstance(error, CutShortError) else Report()
        published = {b.build.build_key for p in report.publications for b in p.builds}
        known = [f for f in report.failures if f.exit_code != Interrupted.exit_code]
        failed = {f.variant for f in known}
        over = [v for v in planned if v.build_key in published or v.variant.name in failed]
        left = [v for v in planned if v not in over]
        keep(
            lambda memory: memory.ended(over, known, now=_now(), most=most).interrupted(left),
            f"Interrupted at {label}",
        )
        raise
    failures = outcome[0].failures
    keep(lambda memory: memory.ended(planned, failures, now=_now(), most=most), f"Done with {label}")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
