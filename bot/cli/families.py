"""The families of Phi as a command: what can be made of each."""

from pathlib import Path

import click

from bot import catalogue
from bot.building.sample import make_sample
from bot.catalogue.families import FAMILIES, SAMPLES
from bot.cli import family_support, tables
from bot.cli.options import Options, chosen, common, keep_from_cleaning, variants_option
from bot.errors import VerifyError
from bot.printable import json_text


@click.command("families")
@click.option("--family", "families", multiple=True, type=click.Choice(list(SAMPLES)), help="Only these families.")
@variants_option
@click.option("--markdown", is_flag=True, help="Print the page docs/families.md.")
@common
def families_command(families: tuple[str, ...], wanted: tuple[str, ...], markdown: bool, options: Options) -> int:
    """Find out which families of Phi each format can hold, by building and verifying a small checkpoint of each.

    Without --variants it tries the first default variant of each format. Files that exist already are not built again.

    \b
    Example: phi-bot families --family phi-4-mini --json
    """
    context = options.context()
    rows = catalogue.select(chosen(wanted, context)) if wanted else family_support.first_defaults()

    keep_from_cleaning(context)

    def checkpoint(family: str) -> Path:
        folder = context.workspace.root / "samples" / family
        if not context.workspace.has(folder):
            make_sample(folder, context.display, family=family)
        return folder

    cells = list(family_support.matrix(families or tuple(FAMILIES), rows, checkpoint, context))
    if markdown:
        click.echo(family_support.render(cells), nl=False)
    elif options.json:
        click.echo(json_text([c.to_json() for c in cells], indent=2))
    else:
        tables.matrix(cells)
    return VerifyError.exit_code if any(c.status == "failed" for c in cells) else 0
