"""The steps of the main job as commands, from building to announcing."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from bot import catalogue
from bot.catalogue.naming import repo_of
from bot.cli import tables
from bot.cli.options import (
    Options,
    artifacts_of,
    chosen,
    common,
    finish,
    keep_from_cleaning,
    read_input,
    run_step,
    variants_option,
)
from bot.context import Context
from bot.errors import PhiBotError, RecordError
from bot.formats import recipes
from bot.publishing.rights import permitted_artifacts, require, state_repo
from bot.publishing.staging import staging_repo
from bot.records.artifacts import Artifact, Failure, Report
from bot.records.failures import CutShortError, failure, merge_reports
from bot.records.plans import Plan
from bot.state.reports import count, failures_in
from bot.steps.announce import announce, announce_releases
from bot.steps.build import build_all
from bot.steps.plan import plan_releases, require_work
from bot.steps.promote import promote
from bot.steps.publish import publish
from bot.steps.run import FOR_A_MATRIX, watch_and_plan
from bot.steps.stage import stage
from bot.steps.verify import verify_all
from bot.steps.watch import Reader, read_named
from bot.workspace import read_artifact


@click.command("build")
@click.argument("sources", nargs=-1, required=True, metavar="PLAN.json|MODEL...")
@variants_option
@click.option("--stock", is_flag=True, help="Let the toolchains work their own way, without the fast paths.")
@common
def build_command(sources: tuple[str, ...], wanted: tuple[str, ...], stock: bool, options: Options) -> int:
    """Build the jobs of a plan, or the variants of models, and print the artifacts' folders.

    \b
    Example: phi-bot build plan.json --json > artifacts.json
    """
    context = options.context()
    if len(sources) == 1 and (sources[0] == "-" or sources[0].endswith(".json")):
        todo: Plan = read_input(sources[0], Plan)
    else:
        rows = catalogue.select(chosen(wanted, context))
        rows = recipes.configured(rows, context.config.build.imatrix_from_4_bits, context.config.build.quality)
        releases, broken = read_named(sources, Reader(hub=context.hub))
        todo = plan_releases(releases, rows)
        if not broken:
            require_work(todo)
        more = tuple(failure(model, v.name, "plan", error) for model, error in broken.items() for v in rows)
        todo = replace(todo, failures=(*more, *todo.failures))
    keep_from_cleaning(context)
    return run_step(lambda: build_all(todo.jobs, context, stock=stock), options, todo.failures)


@click.command("verify")
@click.argument("sources", nargs=-1, required=True, metavar="ARTIFACTS.json|FOLDER...")
@common
def verify_command(sources: tuple[str, ...], options: Options) -> int:
    """Load artifacts in their own runtime and compare them with the original.

    \b
    Example: phi-bot verify artifacts.json --json > proven.json
    """
    context = options.context()
    given = artifacts_of(sources, "verify", context)

    def verified() -> Report:
        try:
            return verify_all(given.artifacts, context)
        finally:
            if not options.json:
                _show_evidence(given.artifacts)

    return run_step(verified, options, given.failures)


def _show_evidence(artifacts: Sequence[Artifact]) -> None:
    """Print what is measured of artifacts, of those that failed too."""
    for artifact in artifacts:
        with suppress(RecordError):  # that it cannot be read is among the failures
            tables.evidence(read_artifact(Path(artifact.folder)))


@click.command("publish")
@click.argument("sources", nargs=-1, required=True, metavar="PROVEN.json|FOLDER...")
@common
def publish_command(sources: tuple[str, ...], options: Options) -> int:
    """Publish proven artifacts: one commit a repo, with card and record.

    \b
    Example: phi-bot publish proven.json --namespace my-org --json > published.json
    """
    context = options.context()
    given = artifacts_of(sources, "publish", context)
    context = context.spelled()
    settings, namespace = context.config.publish, context.config.namespace("there is no namespace to publish in")

    def place(artifact: Artifact) -> str:
        return repo_of(namespace, artifact.build.source.repo_id, artifact.build.variant, settings.repo)

    given = permitted_artifacts(given, context.hub, "publish", place)

    def published() -> Report:
        return publish(given.artifacts, context)

    return run_step(published, options, given.failures)


@click.command("stage")
@click.argument("sources", nargs=-1, required=True, metavar="PROVEN.json|FOLDER...")
@common
def stage_command(sources: tuple[str, ...], options: Options) -> int:
    """Put proven artifacts into the staging repo, from which `phi-bot promote` publishes them.

    \b
    Example: phi-bot stage proven.json --namespace my-org --json > staged.json
    """
    context = options.context()
    given = artifacts_of(sources, "stage", context)
    context = context.spelled()
    target = staging_repo(context.config)
    given = permitted_artifacts(given, context.hub, "stage", lambda _: target)

    def staged() -> Report:
        return stage(given.artifacts, context)

    return run_step(staged, options, given.failures)


@click.command("promote")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--reports",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with the output of `phi-bot run --stage --json`: its failures are remembered.",
)
@common
def promote_command(models: tuple[str, ...], reports: Path | None, options: Options) -> int:
    """Check staged artifacts and publish them: the Hub copies the files, and no model is read here.

    Without a MODEL, it promotes every model that the configuration watches.

    \b
    Example: phi-bot promote --namespace my-org
    """
    context = options.context().spelled()
    settings, dry = context.config.announce, context.config.run.dry_run
    if not dry and context.hub.publishers is None:
        namespace = context.config.namespace("there is no namespace to publish in")
        require(context.hub, [state_repo(context.config, namespace)])
    keep_from_cleaning(context)
    try:
        report = promote(models, context)
    except CutShortError as cut:
        finish(cut.report, options)
        raise
    built = _built(reports) if reports is not None else ()
    if not dry:
        count(built, report, context)
    report = merge_reports(report, Report(failures=built))
    announce(report, status_page=settings.status_page)
    if settings.repository is not None and not dry and (report.publications or report.failures):
        _announce_releases(report, context)
    return finish(report, options)


def _announce_releases(report: Report, context: Context) -> None:
    """Bring the issues of releases up to date, with the state of all their variants. Errors fail nothing."""
    config, display = context.config, context.display
    try:
        cycle = watch_and_plan((), catalogue.select(config.build.variants), context, FOR_A_MATRIX.by_sizes())
    except PhiBotError as error:
        display.say(f"Not announced on GitHub: {error.message}. {error.hint}")
        return
    announce_releases(report, context, todo=cycle.todo, watched=cycle.watched)


def _built(reports: Path) -> tuple[Failure, ...]:
    """Return the failures that other machines report. A report that is none is one more, and holds up nothing."""
    try:
        return failures_in(reports)
    except RecordError as error:
        return (failure(reports.name, "reports", "build", error),)


@click.command("announce")
@click.argument("published", metavar="PUBLISHED.json")
@common
def announce_command(published: str, options: Options) -> None:
    """Print the summary of a run as Markdown; on GitHub Actions it is added to the job's summary too.

    \b
    Example: phi-bot announce published.json
    """
    report: Report = read_input(published, Report)
    text = announce(report, status_page=options.context().config.announce.status_page)
    click.echo(json.dumps({"markdown": text}) if options.json else text)
