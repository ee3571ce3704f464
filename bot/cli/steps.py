"""The main job and its steps as commands."""

import json
from pathlib import Path

import click

from bot import catalogue, show
from bot.cli.options import Options, artifacts_of, chosen, common, print_json, read_input, variants_option
from bot.records import Artifact, Plan, Report, Watched
from bot.steps.announce import announce
from bot.steps.build import build
from bot.steps.failures import exit_code
from bot.steps.plan import plan, require_work
from bot.steps.publish import publish
from bot.steps.run import Means, run, verify_all
from bot.steps.watch import watch
from bot.workspace import read_artifact


@click.command("run")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@variants_option
@common
def run_command(models: tuple[str, ...], wanted: tuple[str, ...], options: Options) -> int:
    """Do the main job: watch, plan, build, verify, publish, announce.

    MODEL is a repo on the Hub or a local folder; without one, the configured authors are watched. Without a namespace
    the files are built and verified, and nothing is published.

    \b
    Example: phi-bot run microsoft/Phi-4-mini-instruct --variants gguf/q4_k_m
    """
    means = options.means()
    asked = chosen(wanted, means)
    rows = catalogue.select(asked)
    named = frozenset(asked) & frozenset(v.name for v in rows)
    todo, report = run(models, rows, named=named, means=means)
    announce(report)
    if options.json:
        print_json(report)
    else:
        _show_run(todo, report, means)
    done = bool(report.artifacts or report.publications or todo.done)
    return exit_code(report.failures, anything_done=done)


def _show_run(todo: Plan, report: Report, means: Means) -> None:
    if report.publications:
        show.publications(report)
    elif report.artifacts:
        show.artifacts(report.artifacts)
        if not means.config.publish.namespace:
            click.echo("Not published: give --namespace to publish these under your name.")
    if not todo.jobs:
        already = len(todo.done)
        click.echo(f"Nothing to convert: {already} variants are published already." if already else "Nothing to do.")
    show.failures(report.failures)


@click.command("watch")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@common
def watch_command(models: tuple[str, ...], options: Options) -> None:
    """List the releases that are there: those of the configured authors, or the named ones.

    \b
    Example: phi-bot watch --json > releases.json
    """
    means = options.means()
    found = watch(models, config=means.config, hub=means.hub, display=means.display)
    if options.json:
        print_json(Watched(releases=found))
    else:
        show.releases(found)


@click.command("plan")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@click.option("--releases", metavar="FILE", help="What `phi-bot watch --json` printed; - for standard input.")
@variants_option
@common
def plan_command(models: tuple[str, ...], releases: str | None, wanted: tuple[str, ...], options: Options) -> None:
    """Say what is to be built, and what is published already. Converts nothing.

    \b
    Example: phi-bot plan microsoft/Phi-4-mini-instruct --variants gguf,mlx/4bit --json > plan.json
    """
    means = options.means()
    if releases:
        given: Watched = read_input(releases, Watched)
        found = given.releases
    else:
        found = watch(models, config=means.config, hub=means.hub, display=means.display)
    rows = catalogue.select(chosen(wanted, means))
    todo = plan(found, rows, namespace=means.config.publish.namespace, hub=means.hub)
    if models:
        require_work(todo)
    if options.json:
        print_json(todo)
    else:
        show.plan(todo)


@click.command("build")
@click.argument("sources", nargs=-1, required=True, metavar="PLAN.json|MODEL...")
@variants_option
@common
def build_command(sources: tuple[str, ...], wanted: tuple[str, ...], options: Options) -> int:
    """Build what a plan says, or the variants of models. The artifacts' folders are printed.

    \b
    Example: phi-bot build plan.json --json > artifacts.json
    """
    means = options.means()
    if len(sources) == 1 and (sources[0] == "-" or sources[0].endswith(".json")):
        todo: Plan = read_input(sources[0], Plan)
    else:
        rows = catalogue.select(chosen(wanted, means))
        found = watch(sources, config=means.config, hub=means.hub, display=means.display)
        todo = plan(found, rows, namespace=None, hub=means.hub)
        require_work(todo)
    artifacts: list[Artifact] = []
    failures = list(todo.failures)
    for job in todo.jobs:
        report = build(
            job,
            workspace=means.workspace,
            hub=means.hub,
            threads=means.config.build.threads,
            display=means.display,
        )
        artifacts += report.artifacts
        failures += report.failures
    return _finish(Report(artifacts=tuple(artifacts), failures=tuple(failures)), options)


@click.command("verify")
@click.argument("sources", nargs=-1, required=True, metavar="ARTIFACTS.json|FOLDER...")
@common
def verify_command(sources: tuple[str, ...], options: Options) -> int:
    """Load artifacts in their own runtime and compare them with the original.

    \b
    Example: phi-bot verify artifacts.json --json > proven.json
    """
    means = options.means()
    given = artifacts_of(sources)
    report = verify_all(given, means)
    if not options.json:
        for artifact in given:  # those that failed too
            show.evidence(read_artifact(Path(artifact.folder)))
    return _finish(report, options)


@click.command("publish")
@click.argument("sources", nargs=-1, required=True, metavar="PROVEN.json|FOLDER...")
@common
def publish_command(sources: tuple[str, ...], options: Options) -> int:
    """Publish proven artifacts: one commit a repo, with card and record.

    \b
    Example: phi-bot publish proven.json --namespace my-org --json > published.json
    """
    means = options.means()
    settings = means.config.publish
    report = publish(
        artifacts_of(sources),
        namespace=settings.namespace,
        private=settings.private,
        hub=means.hub,
        display=means.display,
    )
    if options.json:
        print_json(report)
    else:
        show.publications(report)
        show.failures(report.failures)
    return exit_code(report.failures, anything_done=bool(report.publications))


@click.command("announce")
@click.argument("published", metavar="PUBLISHED.json")
@common
def announce_command(published: str, options: Options) -> None:
    """Print the summary of a run as Markdown; on GitHub Actions it is added to the job's summary too.

    \b
    Example: phi-bot announce published.json
    """
    report: Report = read_input(published, Report)
    text = announce(report)
    click.echo(json.dumps({"markdown": text}) if options.json else text)


def _finish(report: Report, options: Options) -> int:
    if options.json:
        print_json(report)
    else:
        show.artifacts(report.artifacts)
        show.failures(report.failures)
    return exit_code(report.failures, anything_done=bool(report.artifacts))


COMMANDS = (run_command, watch_command, plan_command, build_command, verify_command, publish_command, announce_command)
