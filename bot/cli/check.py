"""Checking a published repo as a command."""

from pathlib import Path

import click

from bot.checking.findings import some
from bot.checking.repo import check
from bot.cli import tables
from bot.cli.options import Options, common, print_json
from bot.errors import ContradictedError
from bot.hub.origins import REPO
from bot.publishing.envelopes import public_key_of


@click.command("check")
@click.argument("repo", metavar="REPO[@REVISION]")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The publisher's public key in PEM: all files have to be signed by it.",
)
@common
def check_command(repo: str, key: Path | None, options: Options) -> None:
    """Say what is proven of a published repo, what is contradicted and what stays open. Downloads no weights.

    REPO may be anybody's, by phi-bot or not.

    \b
    Example: phi-bot check my-org/Phi-4-mini-instruct-GGUF --key key.pub
    """
    repo_id, _, revision = repo.partition("@")
    if not REPO.fullmatch(repo_id):
        raise click.BadParameter(f"{repo[:200]!a} is not OWNER/NAME or OWNER/NAME@REVISION", param_hint="REPO")
    context = options.context()
    public = public_key_of(key) if key is not None else None
    report = check(repo_id, revision or None, context.hub, public, context.display)
    if options.json:
        print_json(report)
    else:
        tables.checked(report)
    if about := dict.fromkeys(f.about for f in report.contradicted):
        raise ContradictedError(
            f"{repo_id} is not what it says, or not as its original: {some(about)}",
            hint="Do not rely on its files until its owner has explained that.",
        )
