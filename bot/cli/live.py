"""``phi-bot doctor --live``: every call that the bot makes, tried on the services that are configured."""

from dataclasses import replace

import click

from bot.cli import tables
from bot.cli.options import Options
from bot.errors import NotReadyError
from bot.hub import client
from bot.live.doctor import LiveDoctor
from bot.live.trials import Tried, failures
from bot.printable import json_text


def examine(options: Options, repository: str, only: tuple[str, ...]) -> int:
    """Try all calls, print the table, and return the exit code. In a dry run nothing is asked."""
    context = options.context()
    namespace = context.config.publish.namespace
    if not namespace:
        raise click.UsageError("--live makes its repos in a namespace: give --namespace, or set publish.namespace")
    # Even where the bot writes as a Trusted Publisher: what does not exist yet trusts nobody.
    context = replace(context, hub=client.connect(context.config.hub.endpoint, None))
    doctor = LiveDoctor(context=context, namespace=namespace, repository=repository, only=only)
    if context.config.run.dry_run:
        _show(doctor.rows("a dry run"), options)
        options.shown.say("Nothing was asked: this is a dry run (--no-dry-run).")
        return 0
    try:
        doctor.run()
    except KeyboardInterrupt:
        _show(doctor.rows(), options)
        raise
    rows = doctor.rows()
    _show(rows, options)
    return NotReadyError.exit_code if any(failures(rows)) else 0


def _show(rows: list[Tried], options: Options) -> None:
    if options.json:
        click.echo(json_text([row.to_json() for row in rows], indent=2))
    else:
        tables.tried(rows)
