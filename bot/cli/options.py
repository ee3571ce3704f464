"""Shared parts of commands: the common options, and records in and out."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from bot import catalogue, config
from bot.cli import tables
from bot.context import Context
from bot.errors import RecordError
from bot.github import REPOSITORY
from bot.hub import client, retry
from bot.printable import json_text
from bot.progress import Display, display
from bot.records.artifacts import Artifact, Failure, Record, Report, Variant
from bot.records.failures import CutShortError, Step, exit_code, failure, merge_reports
from bot.workspace import Workspace, read_artifact, read_record, read_record_from

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of the common options."""

    config: Path | None
    endpoint: str | None
    namespace: str | None
    work: Path | None
    dry_run: bool | None
    json: bool
    shown: Display

    def context(self) -> Context:
        """Read the configuration and return what the steps work with. Makes no request."""
        settings = config.load(self.config, environ=os.environ).replace(
            endpoint=self.endpoint, work=self.work, namespace=self.namespace, dry_run=self.dry_run
        )
        retry.say_waits(self.shown.say)
        return Context(
            config=settings,
            workspace=Workspace(root=settings.build.work),
            hub=client.connect(settings.hub.endpoint, None, trusted_publishers=settings.publish.trusted_publishers),
            display=self.shown,
        )


_COMMON = (
    click.option("--config", type=click.Path(path_type=Path), help="The phi-bot.toml to use."),
    click.option("--endpoint", help="The Hub's address, in place of the configured one."),
    click.option("--namespace", help="The user or organisation to publish under."),
    click.option("--work", type=click.Path(path_type=Path), help="The folder for downloads and artifacts."),
    click.option("--dry-run/--no-dry-run", "dry_run", default=None, help="Say what would be done, and do nothing."),
    click.option("--json", "json_", is_flag=True, help="Print records as JSON."),
    click.option("--quiet", is_flag=True, help="Show no progress."),
)


def common(function: F) -> F:
    """Give a command the options that all steps have, as one ``options`` argument."""

    @wraps(function)
    def wrapped(json_: bool, **given: Any) -> Any:
        keys = ("config", "endpoint", "namespace", "work", "dry_run")
        shown = display(quiet=given.pop("quiet"))
        options = Options(json=json_, shown=shown, **{k: given.pop(k) for k in keys})
        with shown.during(click.get_current_context().command_path):
            return function(options=options, **given)

    for option in reversed(_COMMON):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


variants_option = click.option(
    "--variants",
    "-v",
    "wanted",
    multiple=True,
    metavar="NAME",
    help="A row (gguf/q4_k_m), one with a size (gguf/fit:4.2GB), a FORMAT, FORMAT/* or default; several with commas or "
    "by repeating. Default: as configured.",
)


def chosen(wanted: tuple[str, ...], context: Context) -> tuple[str, ...]:
    """Return the names of variants that were asked for, or the configured ones."""
    split = tuple(part for text in wanted for part in text.split(",") if part)
    return split or context.config.build.variants


def pull_request(name: str) -> tuple[str, int]:
    """Return the repository and the number of a pull request on GitHub. Raises BadParameter for another text."""
    repository, _, number = name.partition("#")
    plain = re.fullmatch(r"[1-9][0-9]{0,9}", number)
    if plain is None or not REPOSITORY.fullmatch(repository):
        raise click.BadParameter(f"{name[:200]!a} is not OWNER/REPO#NUMBER", param_hint="--pull")
    return repository, int(number)


def named_alone(asked: Sequence[str], rows: Sequence[Variant]) -> frozenset[str]:
    """Return the names of variants that were asked for by their own names, not as one of a set."""
    alone = frozenset(v.name for name in asked if (v := catalogue.known(name)) is not None)
    return alone & frozenset(v.name for v in rows)


def print_json(record: Record) -> None:
    """Print a record for the next step."""
    click.echo(json_text(record.to_json(), indent=2))


def finish(report: Report, options: Options) -> int:
    """Print what came of a step, for people or for the next one, and return the exit code."""
    if options.json:
        print_json(report)
    else:
        tables.artifacts(report.artifacts)
        tables.staged(report.staged)
        tables.proposals(report.proposals)
        tables.publications(report)
        tables.failures(report.failures)
    done = bool(report.artifacts or report.staged or report.proposals or report.publications)
    return exit_code(report.failures, anything_done=done)


def run_step(step: Callable[[], Report], options: Options, before: Sequence[Failure] = ()) -> int:
    """Do a step and print what came of it, after what had failed ``before``; return the exit code.

    The results that were complete before a Ctrl-C are printed all the same.
    """
    earlier = Report(failures=tuple(before))
    try:
        report = step()
    except CutShortError as cut:
        finish(merge_reports(earlier, cut.report), options)
        raise
    return finish(merge_reports(earlier, report), options)


def read_input(path: str, kind: type[Any]) -> Any:
    """Read a record that another step printed, from a file or from standard input (``-``)."""
    if path == "-":
        return read_record_from(sys.stdin.buffer, kind, name="standard input")
    return read_record(Path(path), kind)


def keep_from_cleaning(context: Context) -> None:
    """Let nothing be cleaned away that this command uses, until it ends."""
    click.get_current_context().with_resource(context.workspace.at_work())


def artifacts_of(sources: tuple[str, ...], step: Step, context: Context) -> Report:
    """Read artifacts from their folders, or from the JSON of a step before, with what failed on the way so far.

    Until the command ends, they stay. One that cannot be read is a failure at ``step``, and holds up no other. Raises
    RecordError for a single source that cannot be read.
    """
    keep_from_cleaning(context)
    report = Report()
    for text in sources:
        try:
            found = _read(text, step, context)
        except RecordError as error:
            if len(sources) == 1:
                raise
            found = Report(failures=(failure(text, "artifact", step, error),))
        report = merge_reports(report, found)
    return report


def _read(source: str, step: Step, context: Context) -> Report:
    if Path(source).is_dir():
        return Report(artifacts=(_used(Path(source), context),))
    given: Report = read_input(source, Report)
    artifacts: list[Artifact] = []
    failures = list(given.failures)
    for one in given.artifacts:
        try:
            artifacts.append(_used(Path(one.folder), context))
        except RecordError as error:
            failures.append(failure(one.build.source.label, one.build.variant.name, step, error))
    return Report(artifacts=tuple(artifacts), failures=tuple(failures))


def _used(folder: Path, context: Context) -> Artifact:
    context.workspace.has(folder)  # from now on it is in use
    return read_artifact(folder)
