"""The embedded Hub: serving it, and whom it lets do what."""

from pathlib import Path
from typing import Literal

import click

from bot.cli.extras import require_hub

GITHUB = "https://token.actions.githubusercontent.com"


@click.group("hub")
def hub_group() -> None:
    """Serve an embedded Hub from a folder, to try things out and to see what would be published."""


@hub_group.command("serve")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--jobs", is_flag=True, help="Run jobs, which are commands of anyone with a token that may write. They run as you."
)
def hub_serve(folder: Path, host: str, port: int, jobs: bool) -> None:
    """Serve a folder as a Hub until Ctrl-C; open its address in a browser to see the repos and their cards.

    \b
    Example: phi-bot hub serve ./my-hub --port 8080
    """
    require_hub()
    from bot import localhub

    def ready(hub: localhub.RunningHub) -> None:
        click.echo(f"The Hub in {folder} is at {hub.url} (Ctrl-C ends it)")
        click.echo(f"Use it with: HF_ENDPOINT={hub.url} HF_HUB_DISABLE_XET=1 HF_TOKEN=$(cat {hub.token_file})")

    localhub.serve_forever(folder, host, port, ready, jobs=jobs)


@hub_group.command("token")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(("read", "write")), default="write", show_default=True, help="What it may do."
)
@click.option(
    "--for",
    "places",
    multiple=True,
    metavar="PLACE",
    help="A namespace, a repo (owner/name, datasets/owner/name) or *; may be repeated. Default: the namespace of NAME.",
)
def hub_token(folder: Path, name: str, scope: Literal["read", "write"], places: tuple[str, ...]) -> None:
    """Make a token of an account for a Hub's folder and print it; it cannot be shown again.

    \b
    Example: phi-bot hub token ./my-hub me --for me/phi-bot-staging
    """
    require_hub()
    from bot import localhub
    from bot.localhub.refused import RefusedError

    try:
        click.echo(localhub.make_token(folder, name, scope, places))
    except RefusedError as error:
        raise click.UsageError(error.message) from error


@hub_group.command("trust")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--claim", "claims", multiple=True, required=True, metavar="NAME=VALUE", help="What it must claim.")
@click.option("--issuer", default=GITHUB, show_default=True, help="Who signs for it.")
def hub_trust(folder: Path, repo: str, claims: tuple[str, ...], issuer: str) -> None:
    """Let a repo trust the workflows that make all of these claims, beside those that it trusts already.

    \b
    Example: phi-bot hub trust ./my-hub me/Phi-4-GGUF --claim repository=me/phi-models --claim environment=promote
    """
    require_hub()
    from bot import localhub
    from bot.localhub.refused import RefusedError

    named = dict(claim.partition("=")[::2] for claim in claims)
    if len(named) < len(claims) or not all(named.values()):
        raise click.UsageError("--claim takes NAME=VALUE, each NAME once")
    try:
        localhub.trust(folder, repo, issuer, named)
    except RefusedError as error:
        raise click.UsageError(error.message) from error
    click.echo(f"{repo} trusts whoever {issuer} says has {' and '.join(claims)}")
