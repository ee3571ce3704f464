"""The commands that find releases and plan jobs: watch and plan."""

import json
from dataclasses import replace
from pathlib import Path

import click

from bot import catalogue
from bot.cli import tables
from bot.cli.options import Options, chosen, common, named_alone, print_json, read_input, variants_option
from bot.config.machines import PlanTable
from bot.context import Context
from bot.errors import IncompleteError, RecordError
from bot.machines.assign_runners import assign_runners
from bot.machines.github_matrix import matrix
from bot.machines.runners import known_runners
from bot.printable import printable
from bot.reconvert import foreign
from bot.reconvert.child import ChildError
from bot.records.failures import exit_code
from bot.records.plans import DuePlan, WatchedSources
from bot.state import reports
from bot.steps.plan import without_known
from bot.steps.run import FOR_A_MATRIX, TO_BEGIN_A_MATRIX, TO_PLAN, TO_SEE, Cycle, relevant_failures, watch_and_plan


@click.command("watch")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@common
def watch_command(models: tuple[str, ...], options: Options) -> int:
    """List the sources of the configured authors, or the named ones, and what is new about each.

    \b
    Example: phi-bot watch --json > releases.json
    """
    context = options.context()
    watched = watch_and_plan(models, (), context, TO_SEE).watched
    if options.json:
        print_json(watched)
    else:
        tables.watched(watched)
    return IncompleteError.exit_code if models and watched.notices else 0  # of named ones, only what cannot be read


@click.command("plan")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@click.option("--releases", metavar="FILE", help="The output of `phi-bot watch --json`; - for standard input.")
@click.option(
    "--on",
    "where",
    multiple=True,
    metavar="RUNNER",
    help="local, github, hf-jobs, own, any or a runner's name; may be repeated. Default: local, with --matrix github.",
)
@click.option("--matrix", "as_matrix", is_flag=True, help="Print the matrix of a GitHub workflow, as JSON.")
@click.option("--begin", is_flag=True, help="Count an attempt at each entry of the matrix, and remember what was seen.")
@click.option(
    "--unbounded",
    is_flag=True,
    help="Plan all outdated publications in one run, by the sizes of files: headers are not read.",
)
@click.option(
    "--without",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Leave out what this plan has: the output of `phi-bot plan --json`, of any version.",
)
@variants_option
@common
def plan_command(
    models: tuple[str, ...],
    releases: str | None,
    where: tuple[str, ...],
    as_matrix: bool,
    begin: bool,
    unbounded: bool,
    without: Path | None,
    wanted: tuple[str, ...],
    options: Options,
) -> int:
    """List what has to be built, on which machine, at what cost, and what is already published. Converts nothing.

    \b
    Example: phi-bot plan microsoft/Phi-4-mini-instruct --variants gguf,mlx/4bit --json > plan.json
    """
    context = _unbounded(options.context()) if unbounded else options.context()
    given: WatchedSources | None = read_input(releases, WatchedSources) if releases else None
    known = _plan_of_any_version(without) if without else None
    asked = chosen(wanted, context)
    rows = catalogue.select(asked)
    if begin and not as_matrix:
        raise click.UsageError("--begin goes with --matrix")
    begin = begin and not context.config.run.dry_run
    purpose = TO_BEGIN_A_MATRIX if begin else FOR_A_MATRIX if as_matrix else TO_PLAN
    purpose = purpose.on_runners(where) if where else purpose
    purpose = purpose.by_sizes() if unbounded else purpose
    cycle = watch_and_plan(models, rows, context, purpose, given=given)
    if known is not None:
        left = without_known(cycle.todo, known)
        todo = assign_runners(left, cycle.context, on=purpose.on, exact=purpose.by_headers)
        cycle = replace(cycle, todo=todo)
    if as_matrix:
        _print_matrix(cycle, context, begin=begin)
        return 0  # what is left out was said; a workflow goes on with the others
    if options.json:
        print_json(cycle.todo)
    else:
        tables.plan(cycle.todo)
        if cycle.paused is not None:
            click.echo(f"Paused: {cycle.paused}. Nothing is begun.")
    todo = cycle.todo
    failures = relevant_failures(todo, models, named_alone(asked, rows))
    return exit_code(failures, anything_done=bool(todo.jobs or todo.done or todo.postponed))


def _unbounded(context: Context) -> Context:
    """Return settings by which all that is outdated is built, and nothing is left for the next run."""
    settings = context.config
    return replace(context, config=replace(settings, build=replace(settings.build, outdated="now"), plan=PlanTable()))


def _plan_of_any_version(path: Path) -> DuePlan:
    try:
        return foreign.read_file(DuePlan, path)
    except ChildError as error:
        raise RecordError(str(error), hint="Give the output of `phi-bot plan --json`.") from error


def _print_matrix(cycle: Cycle, context: Context, *, begin: bool) -> None:
    """Print what a workflow is to begin: nothing while the bot is paused, or in a dry run."""
    found = matrix(cycle.todo, runners=known_runners(context.config))
    for reason in found.left_out:
        click.echo(printable(f"Left out: {reason}"), err=True)
    for failed in cycle.todo.failures:
        click.echo(printable(f"Left out: {failed.variant} of {failed.release}: {failed.message}"), err=True)
    entries = found.entries
    if entries and (still := "a dry run" if context.config.run.dry_run else cycle.paused):
        click.echo(f"Left out: {len(entries)} entries: {still}", err=True)
        entries = ()
    if begin and entries and cycle.store is not None:
        reports.begin(found.jobs, cycle.store, context.config)
    click.echo(json.dumps({"include": entries}))
