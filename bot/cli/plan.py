"""What is there and what is to be done, as commands: watch and plan."""

import click

from bot import catalogue, show
from bot.cli.options import Options, chosen, common, print_json, read_input, variants_option
from bot.records import Watched
from bot.steps.run import look


@click.command("watch")
@click.argument("models", nargs=-1, metavar="[MODEL[@REVISION]]...")
@common
def watch_command(models: tuple[str, ...], options: Options) -> None:
    """List the sources that are there, and what is new about them: those of the configured authors, or the named ones.

    \b
    Example: phi-bot watch --json > releases.json
    """
    means = options.means()
    watched = look(models, (), means, keep=False).watched
    if options.json:
        print_json(watched)
    else:
        show.watched(watched)


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
    given: Watched | None = read_input(releases, Watched) if releases else None
    rows = catalogue.select(chosen(wanted, means))
    cycle = look(models, rows, means, keep=False, given=given)
    if options.json:
        print_json(cycle.todo)
    else:
        show.plan(cycle.todo)


COMMANDS = (watch_command, plan_command)
