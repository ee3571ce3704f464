"""Which fine-tunes of the watched models the policy takes, and what is said of the rest."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from benchmarks.namespace import commit_files
from bot.cli import tables
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, FinetunesTable, RunTable, WatchTable
from bot.hub import client
from bot.localhub import RunningHub
from bot.records.artifacts import Failure
from bot.records.plans import WatchedSources
from bot.state.memory import Memory
from bot.state.store import store_of
from bot.steps import run as run_module
from bot.steps.run import TO_SEE, Purpose, run, watch_and_plan
from bot.steps.watch import Reader, remembered, watch, watched_finetunes
from tests.contexts import context_of
from tests.source import models
from tests.source.adapters import BASE, adapter_files, base_files
from tests.steps.test_publish import Said

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
PHI = "microsoft/Phi-9"
LIST = "GET /api/models"


class World:
    """A Hub with a model of Microsoft's, and what others made of it."""

    def __init__(self, hub: RunningHub, folder: Path) -> None:
        self.running, self.folder, self.said = hub, folder, Said()
        self.api = HfApi(endpoint=hub.url, token=hub.token)
        self.hub = client.connect(hub.url, hub.token)
        self.put(PHI, models.files(), "---\nlicense: mit\n---\n")

    def put(self, repo_id: str, files: dict[str, bytes], card: str) -> None:
        owner, name = repo_id.split("/")
        repo = self.running.hub.create_repo("model", owner, name, private=False, author=owner)
        commit_files(self.running.hub, repo, files | {"README.md": card.encode()}, "Release")

    def tune(self, repo_id: str, *, license: str = "mit", downloads: int = 0, of: str = PHI, **files: Any) -> None:  # noqa: A002 - the key of a card
        """Put a fine-tune on the Hub, which says of itself what most cards do: its base, and no relation."""
        content = models.files(tokenizer__json=repo_id.encode(), **files)
        self.put(repo_id, content, f"---\nbase_model: {of}\n{f'license: {license}' if license else ''}\n---\n")
        self.download(repo_id, downloads)

    def download(self, repo_id: str, times: int) -> None:
        repo = self.running.hub.repo("model", *repo_id.split("/"))
        assert repo is not None
        for _ in range(times):
            self.running.hub.downloads.count(repo, "config.json")

    def config(self, *, exclude: tuple[str, ...] = (), **policy: Any) -> Config:
        watched = WatchTable(finetunes=FinetunesTable(**policy), exclude=exclude)
        return Config(watch=watched, build=BuildTable(work=self.folder / "work"), publish=PublishTable(namespace="me"))

    def look(self, memory: Memory | None = None, **policy: Any) -> WatchedSources:
        config = self.config(**policy)
        context = context_of(config, hub=self.hub, display=self.said)
        return watch(Reader(hub=self.hub), context, memory=memory or Memory(), now=NOW)


@pytest.fixture
def world(hub: RunningHub, tmp_path: Path, unsynced: None) -> World:
    return World(hub, tmp_path)


def taken(found: WatchedSources) -> list[str]:
    """Return the fine-tunes that are watched, in the order in which they are built."""
    return [s.repo_id for s in found.sightings if s.repo_id != PHI and s.repo_id != BASE]


def words(found: WatchedSources) -> dict[str, str]:
    return {word.repo_id: f"{word.what}: {word.text}" for word in found.finetunes}


def test_without_a_policy_no_fine_tune_is_looked_for(world: World) -> None:
    world.tune("someone/Phi-tune", downloads=3)
    before = world.running.requests.counts()
    found = world.look()
    assert (taken(found), found.finetunes) == ([], ())
    assert (world.running.requests.counts() - before)[LIST] == 1


def test_the_most_downloaded_fine_tunes_of_a_model_are_taken(world: World) -> None:
    for name, downloads in (("a/few", 1), ("b/most", 3), ("c/many", 2)):
        world.tune(name, downloads=downloads)
    world.tune("d/of-another", of="microsoft/Other", downloads=9)
    found = world.look(most_downloaded=2)
    assert taken(found) == ["b/most", "c/many"]
    assert words(found) == {
        "b/most": f"taken: fine-tune of {PHI}, downloads: 3, mit; not seen before",
        "c/many": f"taken: fine-tune of {PHI}, downloads: 2, mit; not seen before",
        PHI: "number: further fine-tunes looked at, downloaded less: 1",
    }
    assert [(n.repo_id, n.what) for n in found.notices] == [("b/most", "new"), ("c/many", "new"), (PHI, "new")]


def test_the_fine_tunes_of_a_named_author_are_taken_by_any_name_and_before_the_others(world: World) -> None:
    world.tune("friend/Zephyr-like", of="elsewhere/gone")
    world.tune("friend/not-a-phi", config__json=b'{"architectures": ["GemmaForCausalLM"], "model_type": "gemma"}')
    world.tune("b/most", downloads=3)
    assert taken(world.look(authors=("Friend",))) == ["friend/Zephyr-like"]
    assert taken(world.look(authors=("friend",), most_downloaded=5)) == ["friend/Zephyr-like", "b/most"]
    found = world.look(authors=("friend",), most_downloaded=5, limit=1)
    assert taken(found) == ["friend/Zephyr-like"]
    assert words(found)["b/most"].startswith("number: is beyond watch.finetunes.limit: fine-tune of microsoft/Phi-9")


def test_what_is_left_out_is_said_with_its_reason_and_makes_room_for_others(world: World) -> None:
    world.tune("a/copyleft", license="cc-by-nc-4.0", downloads=9)
    world.tune("b/silent", license="", downloads=8)
    world.tune("c/gated", downloads=7)
    world.api.update_repo_settings("c/gated", gated="auto")
    world.tune("d/other", config__json=b'{"architectures": ["GemmaForCausalLM"]}', downloads=6)
    world.tune("e/pickled", model__safetensors=None, downloads=5)
    world.tune("f/fits-not", downloads=4)
    world.tune("h/good", downloads=1)
    found = world.look(most_downloaded=1, exclude=("*-NOT",))
    assert taken(found) == ["h/good"]
    said = words(found)
    assert said["a/copyleft"] == "license: has the licence cc-by-nc-4.0 (watch.finetunes.licenses: mit, apache-2.0)"
    assert said["b/silent"] == "license: names no licence (watch.finetunes.licenses: mit, apache-2.0)"
    assert said["c/gated"] == "gated: is gated, and no fine-tune is taken that is"
    assert said["d/other"] == "unfit: is not a Phi of full precision (GemmaForCausalLM)"
    assert said["e/pickled"] == "unfit: has no safetensors weights"
    assert said["f/fits-not"] == "excluded: fits watch.exclude"


def test_licences_are_compared_as_the_configuration_names_them(world: World) -> None:
    world.tune("a/copyleft", license="cc-by-nc-4.0")
    assert taken(world.look(most_downloaded=1, licenses=("CC-BY-NC-4.0",))) == ["a/copyleft"]


def test_conversions_of_a_model_are_none_of_its_fine_tunes(world: World) -> None:
    world.put("a/as-gguf", {"model.gguf": b"GGUF"}, f"---\nlicense: mit\nbase_model: {PHI}\n---\n")
    merged = f"---\nlicense: mit\nbase_model: [{PHI}, x/y]\n---\n"
    world.put("b/merged", models.files(), merged)
    found = world.look(most_downloaded=9)
    assert (taken(found), found.finetunes) == ([], ())


def test_adapters_are_taken_by_the_same_policy_where_it_says_so(world: World) -> None:
    world.put(BASE, base_files(), "---\nlicense: mit\n---\n")
    world.put("a/lora", adapter_files(), f"---\nlicense: mit\nbase_model: {BASE}\nlibrary_name: peft\n---\n")
    world.put("b/pickle", {"adapter_config.json": b"{}"}, f"---\nlicense: mit\nbase_model: {BASE}\n---\n")
    assert taken(world.look(most_downloaded=9)) == []
    found = world.look(most_downloaded=9, adapters=True)
    assert taken(found) == ["a/lora"]
    assert words(found)["a/lora"] == f"taken: adapter of {BASE}, downloads: 0, mit; not seen before"
    assert words(found)["b/pickle"] == "unfit: has no adapter_model.safetensors"
    assert all(s.content_digest for s in found.sightings)
    assert taken(world.look(authors=("a",), adapters=True)) == ["a/lora"]
    assert taken(world.look(authors=("a",))) == []


def test_a_known_fine_tune_takes_no_request_but_its_place_in_a_list(world: World) -> None:
    world.tune("a/one", downloads=2)
    world.tune("b/two", downloads=1)
    first = world.look(most_downloaded=2)
    memory = Memory().with_sources(remembered(first, Memory(), world.config(most_downloaded=2)))
    before = world.running.requests.counts()
    again = world.look(memory, most_downloaded=2)
    asked = world.running.requests.counts() - before
    assert asked == {LIST: 2}  # of Microsoft's models, and of the fine-tunes of the one
    assert (taken(again), again.notices) == (["a/one", "b/two"], ())
    assert words(again)["a/one"].endswith("; seen before")
    assert remembered(again, memory, world.config(most_downloaded=2)) == memory.sources


def test_a_cycle_with_nothing_new_takes_one_list_for_each_watched_model_and_kind(world: World) -> None:
    for number in range(4):
        world.put(f"microsoft/Phi-{number}", models.files(tokenizer__json=b"%d" % number), "---\nlicense: mit\n---\n")
        world.tune(f"a/of-{number}", of=f"microsoft/Phi-{number}")
    policy: Any = {"most_downloaded": 3, "adapters": True}
    found = world.look(**policy)
    memory = Memory().with_sources(remembered(found, Memory(), world.config(**policy)))
    before = world.running.requests.counts()
    world.look(memory, **policy)
    assert world.running.requests.counts() - before == {LIST: 1 + 2 * 5}


def test_a_fine_tune_that_is_less_downloaded_than_others_by_now_is_neither_gone_nor_new_when_it_comes_back(
    world: World,
) -> None:
    world.tune("a/old", downloads=1)
    config = world.config(most_downloaded=1)
    memory = Memory().with_sources(remembered(world.look(most_downloaded=1), Memory(), config))
    world.tune("b/young", downloads=9)  # the bot's own looks count, too
    found = world.look(memory, most_downloaded=1)
    assert [(n.repo_id, n.what) for n in found.notices] == [("b/young", "new")]
    memory = memory.with_sources(remembered(found, memory, config))
    world.download("a/old", 20)
    found = world.look(memory, most_downloaded=1)
    assert (taken(found), found.notices) == (["a/old"], ())


def test_a_model_of_a_watched_author_is_not_its_own_fine_tune(world: World) -> None:
    world.tune("microsoft/Phi-9-chat", downloads=2)
    found = world.look(most_downloaded=5, authors=("microsoft",))
    assert [s.repo_id for s in found.sightings] == [PHI, "microsoft/Phi-9-chat"]
    assert found.finetunes == ()


def test_a_dry_run_says_what_it_would_take_and_why_and_a_run_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.tune("a/one", downloads=1)
    config = world.config(most_downloaded=1)
    monkeypatch.setattr(run_module, "_release", lambda *_: pytest.fail("a dry run builds"))
    dry = Config(watch=config.watch, build=config.build, publish=config.publish, run=RunTable(dry_run=True))
    cycle, _ = run((), (), named=frozenset(), context=context_of(dry, hub=world.hub, display=world.said))
    line = f"a/one (taken): fine-tune of {PHI}, downloads: 1, mit; not seen before"
    assert line in world.said.lines
    tables.watched(cycle.watched)
    assert f"taken      a/one: fine-tune of {PHI}, downloads: 1, mit; not seen before" in capsys.readouterr().out
    world.said.lines.clear()
    run((), (), named=frozenset(), context=context_of(config, hub=world.hub, display=world.said))
    assert line not in world.said.lines
    assert WatchedSources.from_json(cycle.watched.to_json()) == cycle.watched


def test_promoting_knows_the_fine_tunes_that_were_taken_and_those_that_are(world: World) -> None:
    world.tune("a/Old", downloads=1)
    config = world.config(most_downloaded=1)
    context = context_of(config, hub=world.hub)
    watch_and_plan((), (), context, Purpose(remembers=True))
    world.tune("b/young", downloads=9)
    assert watched_finetunes(context) == {PHI.casefold(), "a/old", "b/young"}
    assert watched_finetunes(context_of(world.config(), hub=world.hub)) == frozenset()


def test_an_adapter_whose_base_changed_is_read_again_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tune("a/one")
    context = context_of(world.config(most_downloaded=1), hub=world.hub)
    cycle = watch_and_plan((), (), context, TO_SEE)
    label = next(s.label for s in cycle.watched.sightings if s.repo_id == "a/one")
    failed = Failure(release=label, variant="gguf/q8_0", step="plan", message="m", hint="h", exit_code=27)
    store = store_of(world.hub, "me", context.config)
    todo = replace(cycle.todo, failures=(failed,))
    run_module._keep(store, cycle.watched, todo, {}, context.config, ())
    assert set(store.memory.sources) == {PHI}
