"""The commands beside the main job: toolchains, the sample, the doctor."""

import json
from pathlib import Path

import click

from bot import catalogue, config
from bot.catalogue.families import DEFAULT, SAMPLES
from bot.cli import diagnose, tables
from bot.cli.extras import require_hub
from bot.cli.options import Options, common
from bot.errors import NotReadyError
from bot.printable import size
from bot.progress import display
from bot.steps.watch import Reader
from bot.toolchains import install, kept, names


@click.command("variants")
@click.argument("model", required=False)
@common
def variants_command(model: str | None, options: Options) -> None:
    """List the rows of the catalogue; with a MODEL, with an estimate of each one's size.

    A row with SIZE in its name takes one: its files have at most so many bytes.

    \b
    Example: phi-bot variants microsoft/Phi-4-mini-instruct
    """
    rows = tuple(catalogue.all_variants().values())
    parameters = None
    if model:
        context = options.context()
        release = Reader(hub=context.hub).named(model)
        parameters = release.parameters
    if options.json:
        click.echo(
            json.dumps(
                [
                    v.to_json() | {"estimated_size": round(parameters * v.bits_per_weight / 8) if parameters else None}
                    for v in rows
                ],
                indent=2,
            )
        )
    else:
        tables.variants(rows, tuple(catalogue.sized_rows().values()), parameters)


@click.group("toolchain")
def toolchain_group() -> None:
    """Install, list and remove the locked environments that build and run each format."""


@toolchain_group.command("install")
@click.argument("wanted", nargs=-1, metavar="[NAME]...")
@click.option("--all", "all_", is_flag=True, help="Install all of them.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def toolchain_install(wanted: tuple[str, ...], all_: bool, quiet: bool) -> None:
    """Install toolchains now; without this they are installed when they are first needed.

    \b
    Example: phi-bot toolchain install gguf reference
    """
    if not wanted and not all_:
        raise click.UsageError(f"name toolchains ({', '.join(names())}) or give --all")
    for name in names() if all_ else wanted:
        _known_toolchain(name)
        toolchain = install.ensure(name, display(quiet=quiet))
        click.echo(f"{name} is installed in {toolchain.python.parent.parent}")


@toolchain_group.command("list")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def toolchain_list(json_: bool) -> None:
    """List the toolchains, which of them are installed, and how much disk they take.

    \b
    Example: phi-bot toolchain list
    """
    found = {i.name: i for i in kept.installed()}
    if json_:
        rows = [
            {
                "name": name,
                "installed": name in found,
                "folder": str(found[name].folder) if name in found else None,
                "size": found[name].size if name in found else None,
            }
            for name in names()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for name in names():
        if name in found:
            click.echo(f"{name:<10} {size(found[name].size):>9}  {found[name].folder}")
        else:
            click.echo(f"{name:<10} not installed")


@toolchain_group.command("remove")
@click.argument("wanted", nargs=-1, metavar="[NAME]...")
@click.option("--others", is_flag=True, help="Remove those of other versions of the bot or of Python.")
def toolchain_remove(wanted: tuple[str, ...], others: bool) -> None:
    """Remove toolchains from the cache folder. A process that uses one at this moment fails.

    \b
    Example: phi-bot toolchain remove gguf
    """
    if not wanted and not others:
        raise click.UsageError(f"name toolchains ({', '.join(names())}) or give --others")
    if others:
        freed = kept.remove_others()
        click.echo(f"{len(freed)} of other versions: {size(sum(freed))} freed")
    for name in wanted:
        _known_toolchain(name)
        click.echo(f"{name}: removed" if kept.remove(name) else f"{name}: was not installed")


def _known_toolchain(name: str) -> None:
    if name not in names():
        raise click.UsageError(f"there is no toolchain {name!r}; there are {', '.join(names())}")


@click.command("sample")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--family",
    type=click.Choice(tuple(SAMPLES)),
    default=DEFAULT,
    show_default=True,
    help="The Phi that it is a small version of; smollm2 is a really trained model in Phi-3's architecture.",
)
@click.option(
    "--shards",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="How many files its weights are split into.",
)
@click.option(
    "--keys",
    type=click.Choice(("older", "newer")),
    default="older",
    show_default=True,
    help="The keys of its config: as Microsoft publishes them, or as transformers 5 writes them.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def sample_command(folder: Path, family: str, shards: int, keys: str, quiet: bool) -> None:
    """Make a small Phi checkpoint with the real architecture, tokenizer and config keys, to try things with.

    \b
    Example: phi-bot sample ./phi-sample --family phi-4-mini
    """
    from bot.building.sample import make_sample

    make_sample(folder, display(quiet=quiet), family=family, shards=shards, keys=keys)
    click.echo(f"The sample checkpoint is in {folder}")


@click.command("doctor")
@click.option("--live", is_flag=True, help="Try every call to the Hub and to GitHub, in private repos that it removes.")
@click.option(
    "--github",
    "repository",
    envvar="GITHUB_REPOSITORY",
    default="",
    metavar="OWNER/NAME",
    help="With --live: the repository on GitHub to look at. Default: GITHUB_REPOSITORY.",
)
@click.option("--only", multiple=True, metavar="CALL", help="With --live: try this call, and those that it needs.")
@common
def doctor_command(live: bool, repository: str, only: tuple[str, ...], options: Options) -> int:
    """Report what works on this machine, what is missing, and what to do about it.

    \b
    Example: phi-bot doctor
    Example: phi-bot doctor --live --namespace your-name
    """
    if live:
        from bot.cli.live import examine

        return examine(options, repository, only)
    context = options.context()
    found = diagnose.diagnose(context.config.build.work, context.hub.check)
    if options.json:
        click.echo(json.dumps([f.to_json() for f in found], indent=2))
    else:
        tables.findings(found)
    return NotReadyError.exit_code if any(f.status == "missing" for f in found) else 0


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def init_command(folder: Path) -> None:
    """Write a phi-bot.toml in which every key is explained.

    \b
    Example: phi-bot init
    """
    path = folder / config.FILE_NAME
    config.init(path)
    click.echo(f"Wrote {path}")


@click.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), default=Path(".demo"))
def demo_command(folder: Path) -> int:
    """Show the main job on this machine: a small model, the embedded Hub, all four formats.

    \b
    Example: phi-bot demo .demo
    """
    require_hub()
    from bot.cli.demo_run import demo

    return demo(folder)
