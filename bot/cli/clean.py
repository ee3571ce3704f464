"""Cleaning the working folder, as a command."""

import click

from bot.building.cleaning import STATES, CleaningRequest, State, clean, cleaning_request
from bot.cli import tables
from bot.cli.options import Options, common, print_json


@click.command("clean")
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Files that nothing has used for so long."
)
@click.option("--only", "states", multiple=True, type=click.Choice(STATES), help="Only this; may be repeated.")
@common
def clean_command(older_than: float | None, states: tuple[State, ...], options: Options) -> None:
    """Remove files of the working folder that can be made again, and the leftovers of killed processes.

    Without --older-than it follows work.keep, as `phi-bot run` does by itself, and artifacts that are not published
    stay. With it, they are removed by age like all other files. Files that a running phi-bot uses always stay.

    \b
    Example: phi-bot clean --older-than 7 --dry-run
    """
    context = options.context()
    dry_run = bool(options.dry_run)  # run.dry_run is about the Hub
    chosen = states or STATES
    if older_than is None:
        wish = cleaning_request(context.config.work.keep, states=chosen)
    else:
        wish = CleaningRequest(days=older_than, unpublished=True, states=chosen)
    cleaned = clean(context.workspace, wish, dry_run=dry_run)
    if options.json:
        print_json(cleaned)
    else:
        tables.cleaned(cleaned, dry_run=dry_run)
