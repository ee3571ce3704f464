"""The families of Phi as a command: what can be made of each."""

from pathlib import Path

import click

from bot import catalogue
from bot.building.sample import make_sample
from bot.catalogue.families import FAMILIES, SAMPLES
from bot.cli import family_page, family_support, tables
from bot.cli.options import Options, chosen, common, keep_from_cleaning, variants_option
from bot.errors import VerifyError
from bot.printable import json_text


@click.command("families")
@click.option("--family", "families", multiple=True, type=click.Choice(list(SAMPLES)), help="Only these families.")
@variants_option
@click.option("--markdown", is_flag=True, help="Print the page docs/families.md.")
@click.option(
    "--onto",
    type=click.Path(path_type=Path),
    metavar="PAGE",
    help="With --markdown: take up the rows of other families from this page.",
)
@common
def families_command(
    families: tuple[str, ...], wanted: tuple[str, ...], markdown: bool, onto: Path | None, options: Options
) -> int:
    """Find out which families of Phi each format can hold, by building and verifying a small checkpoint of each.

    Without --variants it tries the first default variant of each format. Files that exist already are not built again.

    \b
    Example: phi-bot families --family phi-4-mini --json
    """
    if onto is not None and not markdown:
        raise click.UsageError("--onto is of the page that --markdown prints")
    known = None if onto is None else family_page.read_page(onto)  # before hours of building
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
        page = family_page.page_of(cells)
        if known is not None:
            tried = {row.title for row in page.rows}
            kept = ", ".join(row.title for row in known.rows if row.title not in tried)
            context.display.say(f"{onto}: taken up as it says: {kept or 'nothing'}")
            page = family_page.joined(page, known)
        click.echo(family_page.render(page), nl=False)
    elif options.json:
        click.echo(json_text([c.to_json() for c in cells], indent=2))
    else:
        tables.matrix(cells)
    return VerifyError.exit_code if any(c.status == "failed" for c in cells) else 0
