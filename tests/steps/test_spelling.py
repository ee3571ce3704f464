"""Names that differ in capitals are one name on the Hub, so they are one here, wherever a person writes one."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import HfApi

from bot import catalogue
from bot.cli import cli
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, WatchTable
from bot.context import Context
from bot.hub import client
from bot.localhub import RunningHub, make_token
from bot.reconvert.approval import Approval
from bot.reconvert.propose import propose
from bot.records.artifacts import Release
from bot.state.memory import Memory
from bot.steps.promote import promote
from bot.steps.publish import publish
from bot.steps.run import TO_SEE, Purpose, watch_and_plan
from bot.steps.stage import stage
from bot.steps.watch import Reader, is_watched, watch
from bot.workspace import Workspace
from tests.reconvert.test_conclude import HEAD, NAME
from tests.steps import proven
from tests.steps.test_publish import Said
from tests.steps.test_publish import no_plots as no_plots
from tests.steps.test_requests import NOW

MODEL, ROWS = "microsoft/Phi-9-mini", ["gguf/q4_k_m", "gguf/q8_0"]
SPELLINGS = ["microsoft", "Microsoft", "MICROSOFT"]
TO_REMEMBER = Purpose(remembers=True)

pytestmark = pytest.mark.usefixtures("no_plots")


class World:
    def __init__(self, hub: RunningHub, tmp_path: Path) -> None:
        self.running, self.folder, self.said = hub, tmp_path, Said()
        self.api = HfApi(endpoint=hub.url, token=hub.token)
        self.release = proven.release(hub, MODEL)

    def context(self, namespace: str = "me", *, token: str | None = None, **watch: Any) -> Context:
        config = Config(
            watch=WatchTable(**({"authors": ("microsoft",)} | watch)),
            build=BuildTable(work=self.folder / "work"),
            publish=PublishTable(namespace=namespace),
        )
        hub = client.connect(self.running.url, token or self.running.token)
        return Context(config=config, workspace=Workspace(root=self.folder / "work"), hub=hub, display=self.said)

    def published(self, *names: str, of: Release | None = None) -> None:
        made = [proven.artifact(self.folder / "made", of or self.release, name) for name in names]
        assert publish(made, self.context()).failures == ()


@pytest.fixture
def world(hub: RunningHub, tmp_path: Path) -> World:
    return World(hub, tmp_path)


def seen(world: World, **how: Any) -> list[str]:
    context = world.context(**how)
    reader = Reader(hub=context.hub)
    found = watch(reader, context, memory=Memory(), now=NOW)
    return [s.repo_id for s in found.sightings]


# ---- watching ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("author", SPELLINGS)
def test_an_author_is_found_by_any_spelling(world: World, author: str) -> None:
    assert seen(world, authors=(author,)) == [MODEL]
    assert not any("was found" in line for line in world.said.lines)


def test_an_author_who_is_named_twice_is_watched_once(world: World) -> None:
    assert seen(world, authors=("Microsoft", "microsoft")) == [MODEL]


@pytest.mark.parametrize("author", ["micro-soft", "nobody", "phi-9-mini"])
def test_of_an_author_of_whom_nothing_is_found_that_is_said(world: World, author: str) -> None:
    assert seen(world, authors=(author, "microsoft")) == [MODEL]
    assert [line for line in world.said.lines if "was found" in line] == [
        f"No release of {author} was found: is the name right (watch.authors), and may this token see it?"
    ]


def test_where_patterns_leave_out_all_that_is_there_that_is_said(world: World) -> None:
    assert seen(world, include=("Phi-10*",)) == []
    assert "None of the 1 releases of microsoft is taken by watch.include and watch.exclude" in world.said.lines


@pytest.mark.parametrize("pattern", ["Phi-9*", "phi-9*", "PHI-9-MINI"])
def test_patterns_take_and_leave_out_in_any_spelling(world: World, pattern: str) -> None:
    assert seen(world, include=(pattern,)) == [MODEL]
    assert seen(world, exclude=(pattern,)) == []
    assert is_watched("MICROSOFT/phi-9-Mini", world.context(authors=("Microsoft",)).config)


# ---- what is published -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("author", SPELLINGS)
@pytest.mark.parametrize("namespace", ["me", "Me", "ME"])
def test_publications_are_found_by_any_spelling_of_the_namespace(world: World, author: str, namespace: str) -> None:
    world.published(*ROWS)
    cycle = watch_and_plan((), catalogue.select(ROWS), world.context(namespace, authors=(author,)), TO_REMEMBER)
    assert (cycle.todo.jobs, cycle.todo.failures, len(cycle.todo.done)) == ((), (), 2)
    assert cycle.context.config.publish.namespace == "me"
    assert cycle.store is not None
    assert cycle.store.repo_id == "me/phi-bot-state"
    assert [d.id for d in world.api.list_datasets()] == ["me/phi-bot-state"]


@pytest.mark.parametrize("model", [MODEL, "Microsoft/PHI-9-mini", "microsoft/phi-9-mini@main"])
def test_a_model_is_named_in_any_spelling_and_has_its_own_everywhere(world: World, model: str) -> None:
    cycle = watch_and_plan((model, MODEL), catalogue.select(ROWS), world.context(), TO_SEE)
    assert [(j.release.repo_id, v.repo_id) for j in cycle.todo.jobs for v in j.variants] == [
        (MODEL, "me/Phi-9-mini-GGUF")
    ] * 2


def test_a_namespace_with_nothing_in_it_is_spelled_as_the_token_says(world: World, hub: RunningHub) -> None:
    token = make_token(hub.hub.folder, "publisher", "write", ["My-Org"])
    cycle = watch_and_plan((MODEL,), catalogue.select(ROWS), world.context("my-org", token=token), TO_REMEMBER)
    assert {v.repo_id for j in cycle.todo.jobs for v in j.variants} == {"My-Org/Phi-9-mini-GGUF"}
    unknown = watch_and_plan((MODEL,), catalogue.select(ROWS), world.context("new-org", token=token), TO_SEE)
    assert {v.repo_id for j in unknown.todo.jobs for v in j.variants} == {"new-org/Phi-9-mini-GGUF"}


def test_staging_promoting_and_proposing_know_a_model_by_any_spelling(world: World) -> None:
    artifact = proven.artifact(world.folder / "first", world.release)
    context = world.context("Me").spelled("me")
    report = stage([artifact], context)
    assert [s.repo_id for s in report.staged] == ["me/phi-bot-staging"]
    other = world.context("me", authors=("Microsoft",))
    for named in (("MICROSOFT/phi-9-mini",), ()):
        report = promote(named, other)
        assert report.failures == ()
    (second,) = [proven.artifact(world.folder / "second", world.release, "gguf/q8_0")]
    approval = Approval(head=HEAD, models=("Microsoft/phi-9-Mini",), by="maintainer")
    proposed = propose([second], other, pull=NAME, approval=approval)
    assert (len(proposed.proposals), proposed.failures) == (1, ())


# ---- as a person types it ----------------------------------------------------------------------------------------


@pytest.fixture
def typed(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv("HF_ENDPOINT", world.running.url)
    monkeypatch.setenv("HF_TOKEN", world.running.token)
    monkeypatch.setenv("PHI_BOT_CACHE", str(world.folder / "cache"))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)

    return run


def test_every_command_that_writes_takes_any_spelling_of_the_namespace(world: World, typed: Any) -> None:
    world.published("gguf/q4_k_m")  # so that the Hub knows of the namespace
    made = [proven.artifact(world.folder / "typed", world.release, name) for name in ("gguf/q8_0", "gguf/q6_k")]
    published = typed("publish", made[0].folder, "--namespace", "ME", "--json")
    assert [p["repo_id"] for p in json.loads(published.stdout)["publications"]] == ["me/Phi-9-mini-GGUF"]
    staged = typed("stage", made[1].folder, "--namespace", "ME", "--json")
    assert [s["repo_id"] for s in json.loads(staged.stdout)["staged"]] == ["me/phi-bot-staging"]
    promoted = typed("promote", "microsoft/PHI-9-mini", "--namespace", "mE", "--json")
    assert [p["repo_id"] for p in json.loads(promoted.stdout)["publications"]] == ["me/Phi-9-mini-GGUF"]
    assert typed("pause", "--namespace", "ME").stdout.startswith("Paused: me/phi-bot-state says so")
    assert typed("resume", "--namespace", "Me").stdout == "The bot goes on.\n"
    plan = json.loads(typed("plan", "microsoft/phi-9-mini", "-v", "gguf/q8_0", "--namespace", "Me", "--json").stdout)
    assert [v["repo_id"] for v in plan["done"]] == ["me/Phi-9-mini-GGUF"]
    assert sorted(m.id for m in world.api.list_models(author="me")) == ["me/Phi-9-mini-GGUF", "me/phi-bot-staging"]
