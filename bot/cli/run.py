"""The main job as a command."""

from dataclasses import replace

import click

from bot import catalogue
from bot.cli import tables
from bot.cli.options import Options, chosen, common, finish, named_alone, print_json, variants_option
from bot.context import Context
from bot.machines.runners import LOCAL
from bot.records.artifacts import Report
from bot.records.failures import CutShortError, exit_code
from bot.steps.announce import announce, announce_releases
from bot.steps.run import Cycle, run


@click.command("run")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@click.option(
    "--on", "where", default=LOCAL, metavar="RUNNER", help="Where it builds: local, hf-jobs or hf-jobs/FLAVOR."
)
@click.option("--no-publish", is_flag=True, help="Build and verify, but publish nothing, whatever is configured.")
@click.option("--stage", "staged", is_flag=True, help="Stage the files that passed, for `phi-bot promote` to publish.")
@variants_option
@common
def run_command(
    models: tuple[str, ...], where: str, no_publish: bool, staged: bool, wanted: tuple[str, ...], options: Options
) -> int:
    """Do the main job: watch, plan, build, verify, publish, announce.

    MODEL is a repo on the Hub or a local folder; without one, the configured authors are watched. Without a namespace
    the files are built and verified, but not published.

    \b
    Example: phi-bot run microsoft/Phi-4-mini-instruct --variants gguf/q4_k_m
    """
    context = options.context()
    if no_publish:
        context = _unpublished(context)
    asked = chosen(wanted, context)
    rows = catalogue.select(asked)
    named = named_alone(asked, rows)
    if where != LOCAL and where.partition("/")[0] != "hf-jobs":
        raise click.UsageError(
            f"--on is local, hf-jobs or hf-jobs/FLAVOR, not {where}; `phi-bot plan` knows other runners"
        )
    if staged and no_publish:
        raise click.UsageError("--stage and --no-publish do not go together")
    if staged:
        context.config.namespace("there is no namespace to stage in")
    try:
        cycle, report = run(models, rows, named=named, context=context, on=(where,), staged=staged)
    except CutShortError as cut:
        finish(cut.report, options)
        raise
    settings = context.config.announce
    announce(report, todo=cycle.todo, watched=cycle.watched, status_page=settings.status_page)
    if not context.config.run.dry_run and not no_publish:
        announce_releases(report, context, todo=cycle.todo, watched=cycle.watched)
    if options.json:
        print_json(report)
    else:
        _show(cycle, report, context)
    done = bool(report.artifacts or report.staged or report.publications or cycle.todo.done)
    return exit_code(report.failures, anything_done=done)


def _unpublished(context: Context) -> Context:
    publish = replace(context.config.publish, namespace=None)
    return replace(context, config=replace(context.config, publish=publish))


def _show(cycle: Cycle, report: Report, context: Context) -> None:
    if cycle.paused is not None:
        click.echo(f"Paused: {cycle.paused}. Nothing was begun{'' if not report.publications else ' after that'}.")
    elif context.config.run.dry_run:
        tables.plan(cycle.todo)
        click.echo("A dry run: nothing was done. Set dry_run = false in [run] to turn the bot on.")
        return
    if report.publications:
        tables.publications(report)
    elif report.staged:
        tables.staged(report.staged)
    elif report.artifacts:
        tables.artifacts(report.artifacts)
        if not context.config.publish.namespace:
            click.echo("Not published: give --namespace to publish these under your name.")
    if not cycle.todo.jobs and cycle.paused is None:
        already = len(cycle.todo.done)
        click.echo(f"Nothing to convert: {already} variants are published already." if already else "Nothing to do.")
    tables.failures(report.failures)
