"""The status page as a command."""

import datetime as dt
import os
from pathlib import Path

import click

from bot import catalogue
from bot.cli.options import Options, common, print_json
from bot.errors import ForeignRepoError, RecordError
from bot.hub.client import Hub
from bot.pages.status import collect, pages, write
from bot.progress import Display
from bot.records.artifacts import RepoRecord
from bot.state.memory import Memory
from bot.steps.run import TO_SEE, watch_and_plan
from bot.system.workflow_run import run_address


@click.command("status")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("site"), show_default=True, help="The folder of the site."
)
@click.option("--previous", type=click.Path(path_type=Path), help="The status.json of an earlier page.")
@click.option("--private", is_flag=True, help="Show private and gated models too, for a page that only you see.")
@common
def status_command(out: Path, previous: Path | None, private: bool, options: Options) -> None:
    """Make the status page: a static site with the state of every model in every format. Builds nothing.

    Repos that did not change since the earlier page are not read again.

    \b
    Example: phi-bot status --namespace my-org --out site
    """
    context = options.context()
    namespace = context.config.namespace("without a namespace nothing is published")
    if not options.json:
        write.check(out)
    before = write.previous(out, previous)
    cycle = watch_and_plan((), catalogue.select(context.config.build.variants), context, TO_SEE)
    namespace = cycle.context.config.publish.namespace or namespace
    shelved = tuple(cycle.there.shelved.values())
    wanted = [s for s in shelved if private or not s.private]
    known = collect.BotSnapshot(
        sightings=cycle.watched.sightings,
        shelved=shelved,
        records=_records(collect.unread(wanted, before), context.hub, context.display),
        plan=cycle.todo,
        memory=cycle.store.memory if cycle.store else Memory(),
        paused=cycle.paused,
        previous=before,
    )
    found = collect.collect(
        known,
        hub=context.hub.endpoint,
        namespace=namespace,
        now=dt.datetime.now(dt.UTC),
        private=private,
        run=run_address(os.environ),
    )
    if options.json:
        print_json(found)
        return
    files = pages.render(found)
    write.write(files, out)
    entries = [e for m in found.models for e in m.entries]
    published = sum(e.published for e in entries)
    urgent = sum(e.state in ("stuck", "failed") for e in entries)
    index = out / "index.html"
    click.echo(f"{index}: models {len(found.models)}, variants published {published}, to look at {urgent}")


def _records(repos: list[str], hub: Hub, display: Display) -> dict[str, RepoRecord]:
    """Read the records of repos. One that cannot be read leaves its repo without figures."""
    found: dict[str, RepoRecord] = {}
    if not repos:
        return found
    with display.task("Reading records") as task:
        for number, repo_id in enumerate(repos):
            task.update("of repos that changed", number, len(repos), "repos")
            try:
                record = hub.record(repo_id)
            except (ForeignRepoError, RecordError) as error:
                display.say(f"{repo_id} is shown without figures: {error.message}")
                continue
            if record is not None:
                found[repo_id] = record[0]
    return found
