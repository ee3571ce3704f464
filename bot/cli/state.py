"""Commands for the bot's state: retry failures, pause, resume."""

import fnmatch

import click

from bot.cli import tables
from bot.cli.options import Options, common
from bot.printable import json_text
from bot.state.attempts import Attempted
from bot.state.store import Store, store_of


def _store(options: Options) -> Store:
    context = options.context().spelled()
    return store_of(context.hub, context.config.namespace("without a namespace nothing is remembered"), context.config)


@click.command("retry")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--variant", "-v", "variants", multiple=True, metavar="NAME", help="Only these variants; * matches anything."
)
@click.option("--all", "all_", is_flag=True, help="Everything that failed.")
@common
def retry_command(models: tuple[str, ...], variants: tuple[str, ...], all_: bool, options: Options) -> None:
    """Forget failures, so that the next run tries again. Without a MODEL and --all, list them.

    A variant that failed as often as run.attempts allows waits for this.

    \b
    Example: phi-bot retry microsoft/Phi-4-mini-instruct --namespace my-org
    """
    store = _store(options)
    known = store.memory.attempts
    wanted = {model.casefold() for model in models}

    def chosen(attempt: Attempted) -> bool:
        named = attempt.release.partition("@")[0].casefold() in wanted or (all_ and not models)
        return named and (not variants or any(fnmatch.fnmatchcase(attempt.variant, v) for v in variants))

    keys = [key for key, attempt in known.items() if chosen(attempt)]
    if models or all_:
        store.update(lambda memory: memory.forget(keys), "Retry")
    found = [known[key] for key in keys] if models or all_ else list(known.values())
    if options.json:
        click.echo(json_text([a.to_json() for a in found], indent=2))
    else:
        tables.attempts(found)
        if models or all_:
            click.echo(f"{len(keys)} variants are tried again in the next run.")


@click.command("pause")
@click.option("--why", default="paused by hand", show_default=True, help="The reason that people are told.")
@common
def pause_command(why: str, options: Options) -> None:
    """Stop the bot on every machine: a run begins nothing new, and ends.

    \b
    Example: phi-bot pause --why "disk of the runner is being replaced" --namespace my-org
    """
    store = _store(options)
    store.pause(why)
    click.echo(f"Paused: {store.repo_id} says so until `phi-bot resume`.")


@click.command("resume")
@common
def resume_command(options: Options) -> None:
    """Let the bot go on after `phi-bot pause`.

    \b
    Example: phi-bot resume --namespace my-org
    """
    store = _store(options)
    was = store.paused
    store.resume()
    click.echo("It was not paused." if was is None else "The bot goes on.")
