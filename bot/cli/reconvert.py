"""Commands for the changes of a pull request: compare two sides, render a card, update the one comment."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from bot import catalogue, config, github
from bot.catalogue.families import FAMILIES
from bot.cli.options import (
    Options,
    chosen,
    common,
    keep_from_cleaning,
    print_json,
    pull_request,
    read_input,
    variants_option,
)
from bot.context import Context
from bot.errors import AdapterError, ConfigError
from bot.reconvert import cards
from bot.reconvert.child import ChildError
from bot.reconvert.compare import ComparisonRequest, compare_code, compare_models
from bot.reconvert.describe import describe
from bot.reconvert.records import Comparison
from bot.reconvert.render import MARKER, render
from bot.source.adapters import is_adapter
from bot.workspace import write_json

_FOLDER = click.Path(path_type=Path)


@click.command("compare")
@click.option(
    "--base", type=_FOLDER, required=True, help="The side before the change: a checkout, or a model's folder."
)
@click.option("--head", type=_FOLDER, required=True, help="The side after it.")
@click.option("--model", metavar="PATH", help="Compare the model in this folder of both sides, not their code.")
@click.option("--family", "families", multiple=True, type=click.Choice(list(FAMILIES)), help="Only these families.")
@variants_option
@click.option("--out", type=click.Path(path_type=Path), help="A folder for comparison.json and comparison.md.")
@common
def compare_command(
    base: Path,
    head: Path,
    model: str | None,
    families: tuple[str, ...],
    wanted: tuple[str, ...],
    out: Path | None,
    options: Options,
) -> None:
    """Measure what a change does to published files: sizes and quality before and after, with a verdict.

    Both sides build and verify the variants that the change affects, each with its own code. A dry run builds nothing.

    \b
    Example: phi-bot compare --base ../main --head . --family phi-4-mini
    """
    for side in (base, head):
        if not side.is_dir():
            raise ConfigError(f"there is no folder {side}", hint="Name two checkouts, or two folders of a model.")
    own = base / config.FILE_NAME
    if options.config is None and own.is_file() and not Path(config.FILE_NAME).exists():
        options = replace(options, config=own)  # the base's: a head could say that everything passes
    context = options.context()
    canary = not options.dry_run  # nothing is published, so a configuration that says so means something else
    if canary:
        keep_from_cleaning(context)
    before, after = _model(base, model), _model(head, model)
    if model and after is None and _is_adapter(head / model):
        raise AdapterError(
            f"{head / model} is an adapter, and models are compared whole",
            hint="Merge it with peft (merge_and_unload(), then save_pretrained), and compare that. `phi-bot run` takes "
            "the adapter itself.",
        )
    if model and after is None:
        raise ConfigError(f"{head / model} holds no model", hint="Name the folder with its config.json.")
    if after is not None:
        names = tuple(v.name for v in catalogue.select(chosen(wanted, context)))
        found = compare_models(
            before,
            after,
            ComparisonRequest(variants=names, canary=canary),
            config=options.config.absolute() if options.config else None,
            workspace=context.workspace,
            display=context.display,
        )
    else:
        named = tuple(v.name for v in catalogue.select(chosen(wanted, context))) if wanted else ()
        wish = ComparisonRequest(
            namespace=context.config.publish.namespace, families=families, variants=named, canary=canary
        )
        try:
            found = compare_code(
                base.resolve(), head.resolve(), wish, workspace=context.workspace, display=context.display
            )
        except ChildError as error:
            raise ConfigError(str(error), hint="Nothing can be compared with it.") from error
    _hand_out(found, out, options)


@click.command("describe")
@common
def describe_command(options: Options) -> None:
    """Print everything in this code and configuration that published files depend on. `compare` calls it.

    \b
    Example: phi-bot describe --json
    """
    said = describe(options.context().config)
    if options.json:
        print_json(said)
        return
    for row in said.variants:
        click.echo(f"{row.name:<28} {row.recipe[:12]}  {row.options}")
    for name, digest in said.locks.items():
        click.echo(f"{name:<28} {digest[:12]}  lock")
    for precision, bound in said.gates.items():
        click.echo(f"{precision:<28} {bound:<12g}  gate, in multiples of the cost of plain rounding")


@click.command("card")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER, metavar="FOLDER...")
@common
def card_command(folders: Sequence[Path], options: Options) -> None:
    """Print the model card that publishing verified artifacts would write.

    \b
    Example: phi-bot card work/artifacts/5f1c… --namespace my-org
    """
    context = options.context()
    text = cards.card(
        folders,
        namespace=_namespace(context),
        endpoint=context.hub.endpoint,
        template=context.config.publish.repo,
    )
    click.echo(json.dumps({"markdown": text}) if options.json else text, nl=options.json)


@click.command("comment")
@click.argument("comparison", metavar="COMPARISON.json")
@click.option("--pull", required=True, metavar="OWNER/REPO#N", help="The pull request.")
@common
def comment_command(comparison: str, pull: str, options: Options) -> None:
    """Put a comparison on a pull request, as one comment that is updated. Its text is always escaped.

    \b
    Example: phi-bot comment comparison.json --pull your-name/phi-bot#12
    """
    repository, number = pull_request(pull)
    text = render(read_input(comparison, Comparison))
    if options.context().config.run.dry_run:
        click.echo(text, nl=False)
        return
    address = github.put_comment(github.open_repository(repository), number, MARKER, text)
    click.echo(json.dumps({"url": address}) if options.json else address)


def _model(side: Path, model: str | None) -> Path | None:
    """Return the folder of a side's model, None where it has none.

    Raises ConfigError for one outside of the side: links in a stranger's checkout lead anywhere.
    """
    folder = (side / model if model else side).resolve()
    if not folder.is_relative_to(side.resolve()):
        raise ConfigError(f"{model} leads out of {side}", hint="Name a folder below both sides.")
    return folder if (folder / "config.json").is_file() and not _is_adapter(folder) else None


def _is_adapter(folder: Path) -> bool:
    """Say whether a folder holds an adapter by itself; some tools leave the config.json of its base beside it."""
    return folder.is_dir() and is_adapter(path.name for path in folder.iterdir())


def _namespace(context: Context) -> str:
    namespace = context.config.publish.namespace
    if not namespace:
        raise ConfigError(
            "a card names its repo, and there is no namespace",
            hint="Give --namespace NAME, or set [publish] namespace.",
        )
    return namespace


def _hand_out(found: Comparison, out: Path | None, options: Options) -> None:
    text = render(found)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "comparison.json", found.to_json())
        (out / "comparison.md").write_text(text, encoding="utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    if options.json:
        print_json(found)
    else:
        click.echo(text, nl=False)
