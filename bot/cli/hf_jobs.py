"""A bot that runs on the Hub by itself, as commands: its schedule and its webhook."""

import json
from collections.abc import Sequence

import click

from bot.cli.options import Options, common
from bot.context import Context
from bot.hf_jobs.run import KIND
from bot.hf_jobs.scheduled import HOURS, ScheduledBot, scheduled_bot
from bot.hub import scheduled as hub_standing
from bot.hub.scheduled import Schedule, Webhook
from bot.machines.assign_runners import candidates
from bot.publishing.rights import payer

_flavor = click.option(
    "--flavor", default="cpu-basic", show_default=True, help="The machine that the bot itself runs on."
)
_on = click.option(
    "--on",
    type=click.Choice(("hf-jobs", "local")),
    default="hf-jobs",
    show_default=True,
    help="Where it builds: each job on its own machine, or all jobs on the bot's.",
)


@click.group("schedule")
def schedule_group() -> None:
    """Install, list and remove the scheduled job on Hugging Face that runs the bot."""


@schedule_group.command("install")
@click.option("--every", default="@daily", show_default=True, help="@hourly, @daily, @weekly … or cron, in UTC.")
@_flavor
@_on
@common
def schedule_install(every: str, flavor: str, on: str, options: Options) -> None:
    """Have the bot run on a schedule with this configuration, or change the schedule that it has.

    \b
    Example: phi-bot schedule install --every "0 */6 * * *" --namespace my-org
    """
    context = options.context().spelled()
    made = _standing("schedule", flavor, on, context)
    _say(f"phi-bot runs {every} (UTC)", made, flavor, options)
    if context.config.run.dry_run:
        _say_dry(options)
        return
    old = hub_standing.schedules(context.hub, made.payer, _namespace(context))
    new = hub_standing.schedule(context.hub, made.payer, made.order, every, old=old)
    _show((new,), options)


@schedule_group.command("list")
@common
def schedule_list(options: Options) -> None:
    """List the schedules of bots that publish in the namespace.

    \b
    Example: phi-bot schedule list --namespace my-org
    """
    context = options.context().spelled()
    _show(hub_standing.schedules(context.hub, payer(context.config), _namespace(context)), options)


@schedule_group.command("remove")
@common
def schedule_remove(options: Options) -> None:
    """Have the bot run on a schedule no more. A run that has begun goes on.

    \b
    Example: phi-bot schedule remove --namespace my-org
    """
    context = options.context().spelled()
    old = hub_standing.schedules(context.hub, payer(context.config), _namespace(context))
    if not context.config.run.dry_run:
        hub_standing.unschedule(context.hub, payer(context.config), old)
    _removed(old, options, dry=context.config.run.dry_run)


@click.group("webhook")
def webhook_group() -> None:
    """Install, list and remove the webhook that runs the bot when a watched author changes a model."""


@webhook_group.command("install")
@_flavor
@_on
@common
def webhook_install(flavor: str, on: str, options: Options) -> None:
    """Have the bot run once now and whenever a repo of a watched author changes, or change the webhook that it has.

    \b
    Example: phi-bot webhook install --namespace my-org
    """
    context = options.context().spelled()
    made = _standing("webhook", flavor, on, context)
    authors = tuple(context.hub.spelling(author) for author in context.config.watch.authors)
    _say(f"phi-bot runs when a repo of {', '.join(authors)} changes, and once now", made, flavor, options)
    if context.config.run.dry_run:
        _say_dry(options)
        return
    old = hub_standing.webhooks(context.hub, _namespace(context))
    _show((hub_standing.watch(context.hub, made.payer, made.order, authors, old=old),), options)


@webhook_group.command("list")
@common
def webhook_list(options: Options) -> None:
    """List the webhooks of your account that run a bot which publishes in the namespace.

    \b
    Example: phi-bot webhook list --namespace my-org
    """
    context = options.context().spelled()
    _show(hub_standing.webhooks(context.hub, _namespace(context)), options)


@webhook_group.command("remove")
@common
def webhook_remove(options: Options) -> None:
    """Stop running the bot on changes.

    \b
    Example: phi-bot webhook remove --namespace my-org
    """
    context = options.context().spelled()
    old = hub_standing.webhooks(context.hub, _namespace(context))
    if not context.config.run.dry_run:
        hub_standing.unwatch(context.hub, old)
    _removed(old, options, dry=context.config.run.dry_run)


def _standing(purpose: str, flavor: str, on: str, context: Context) -> ScheduledBot:
    (runner,) = candidates((f"{KIND}{flavor}",), context)
    return scheduled_bot(purpose, context, on=on, runner=runner)


def _namespace(context: Context) -> str:
    return context.config.namespace("a bot is found by the namespace that it publishes in")


def _say(what: str, made: ScheduledBot, flavor: str, options: Options) -> None:
    if options.json:
        return
    click.echo(f"{what}, on {flavor}.")
    click.echo(
        f"One run costs at most ${made.most:.2f} ({HOURS} hours), paid by {made.payer}; the jobs that it starts cost "
        "what `phi-bot plan --on hf-jobs` says."
    )
    click.echo(
        f"The token of {made.account} is kept with it, as its secret HF_TOKEN: it must be able to run jobs in "
        f"{made.payer} and to write where the bot publishes, and nothing more."
    )


def _say_dry(options: Options) -> None:
    click.echo("[]" if options.json else "A dry run: nothing was installed. Set dry_run = false in [run].")


def _show(found: Sequence[Schedule | Webhook], options: Options) -> None:
    if options.json:
        click.echo(json.dumps([f.to_json() for f in found], indent=2))
        return
    for one in found:
        match one:
            case Schedule():
                due = "suspended" if one.suspended else f"next run {one.next_run}"
                click.echo(f"{one.id}  {one.schedule} on {one.flavor}, {due}")
            case Webhook():
                off = ", switched off" if one.disabled else ""
                click.echo(f"{one.id}  on changes of {', '.join(one.authors)}, on {one.flavor}{off}")
    if not found:
        click.echo("There is none.")


def _removed(old: Sequence[Schedule | Webhook], options: Options, *, dry: bool) -> None:
    if options.json:
        _show(old, options)
    elif dry:
        click.echo(f"A dry run: {len(old)} would be removed.")
    else:
        click.echo(f"{len(old)} removed." if old else "There was none.")
