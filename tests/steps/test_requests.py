"""What each step asks of the Hub, at two sizes: what grows does so by what it must, and nothing else does.

Every count is exact, and of the embedded Hub: by kinds of requests, as its server took them.
"""

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import CommitOperationAdd, HfApi

from bot import catalogue, toolchains
from bot.building.release_at_hand import fetch
from bot.catalogue import naming
from bot.cli import cli
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, WatchTable
from bot.context import Context
from bot.github import Pull
from bot.hub import client
from bot.localhub import RunningHub, serve
from bot.reconvert.approval import Approval
from bot.reconvert.conclude import conclude
from bot.reconvert.propose import propose
from bot.records.artifacts import Artifact, FileEntry, Release, Report
from bot.records.digests import digest_of
from bot.records.plans import Plan, WatchedSources
from bot.state.memory import Memory, SeenSource
from bot.state.store import Store
from bot.steps.plan import PlanInputs, plan
from bot.steps.promote import promote
from bot.steps.publish import publish
from bot.steps.stage import stage
from bot.steps.watch import Reader, remembered, source_state, watch
from bot.workspace import write_json
from tests.contexts import context_of
from tests.reconvert.test_conclude import HEAD, NAME
from tests.source import models
from tests.steps import proven
from tests.steps.test_publish import no_plots as no_plots

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("no_plots")]

MODEL, DATASET = "/api/models/{namespace}/{name}", "/api/datasets/{namespace}/{name}"
HEADS = {f"GET {MODEL}": 1, f"GET {MODEL}/tree/{{revision}}/{{path*}}": 1}  # where a repo is, and what is in it
RECORD = {**HEADS, "GET /{namespace}/{name}/resolve/{revision}/{path*}": 1}
ROWS = ("gguf/q4_k_m", "gguf/q8_0", "gguf/q6_k", "gguf/q5_k_m", "gguf/q3_k_m", "gguf/q4_k_s")
NOW = dt.datetime(2040, 1, 1, tzinfo=dt.UTC)
PULL = Pull(
    number=7, state="closed", merged=True, head_sha=HEAD, head_repository="o/r", labels=(), merge_commit="c" * 40
)


class World:
    """A Hub, a bot, and as many models, variants and files as a test asks for."""

    def __init__(self, hub: RunningHub, tmp_path: Path) -> None:
        self.running, self.folder = hub, tmp_path
        self.hub = client.connect(hub.url, hub.token)
        self.api = HfApi(endpoint=hub.url, token=hub.token)
        self.config = Config(
            watch=WatchTable(authors=("microsoft",)),
            build=BuildTable(work=tmp_path / "work"),
            publish=PublishTable(namespace="me"),
        )
        self.models: list[Release] = []

    def model(self) -> Release:
        """Another model of the watched author."""
        name = f"microsoft/Phi-{len(self.models)}"
        fill = len(self.models) % 250
        weights = models.safetensors(models.TENSORS, fill=fill)
        self.models.append(proven.release(self.running, name, model__safetensors=weights))
        return self.models[-1]

    def artifacts(self, of: Release, count: int, *, files: int = 1) -> list[Artifact]:
        """So many variants of a model as GGUF, each of so many files."""
        made = [proven.artifact(self.folder / of.name, of, name) for name in ROWS[:count]]
        return [_with_files(a, files) for a in made] if files > 1 else made

    def context(self) -> Context:
        return context_of(self.config, hub=self.hub, workspace=self.folder / "work")

    def publish(self, artifacts: Sequence[Artifact]) -> Report:
        report = publish(artifacts, self.context())
        assert report.failures == ()
        return report

    def stage(self, artifacts: Sequence[Artifact]) -> Report:
        report = stage(artifacts, self.context())
        assert report.failures == ()
        return report

    def asked(self, step: Callable[[], object]) -> Counter[str]:
        """What a step asks of the Hub."""
        before = self.running.requests.counts()
        step()
        return self.running.requests.counts() - before


def _with_files(artifact: Artifact, count: int) -> Artifact:
    """Give an artifact more files: small ones, which go with the commit."""
    folder, entries = Path(artifact.folder), list(artifact.build.files)
    for number in range(count - 1):
        name = f"{artifact.build.variant.short_name}-{number:03}.gguf"
        content = f"{name}".encode()
        (folder / "files" / name).write_bytes(content)
        entries.append(FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    build = replace(artifact.build, files=tuple(sorted(entries, key=lambda e: e.path)))
    write_json(folder / "build.json", build.to_json())
    return replace(artifact, build=build)


def grows(world_of: Callable[[], World], step: Callable[[World, int], Counter[str]]) -> dict[str, int]:
    """What a step asks more for each further one of what there is more of, by its counts for two and for four."""
    two, four = (step(world_of(), size) for size in (2, 4))
    assert not two - four
    assert all(count % 2 == 0 for count in (four - two).values())
    return {kind: count // 2 for kind, count in (four - two).items()}


@pytest.fixture
def worlds(tmp_path: Path, unsynced: None) -> Iterator[Callable[[], World]]:
    """Makes worlds, each with a Hub of its own."""
    with ExitStack() as stack:
        folders = (tmp_path / str(number) for number in range(100))

        def make() -> World:
            folder = next(folders)
            return World(stack.enter_context(serve(folder / "hub")), folder)

        yield make


# What the storage of large files takes for each: its content, and that it is asked for.
LARGE = {"POST /{namespace}/{name}.git/info/lfs/verify": 1, "PUT /_lfs/upload": 1}
READ = "GET /{namespace}/{name}/resolve/{revision}/{path*}"
FILE = {READ: 1, "GET /_lfs/download": 1}  # a large one, which is kept elsewhere


# ---- staging and promoting -------------------------------------------------------------------------------------


def test_staging_asks_for_no_more_than_the_upload_of_each_file(worlds: Callable[[], World]) -> None:
    def files(world: World, size: int) -> Counter[str]:
        artifacts = world.artifacts(world.model(), 1, files=size)
        return world.asked(lambda: world.stage(artifacts))

    def variants(world: World, size: int) -> Counter[str]:
        artifacts = world.artifacts(world.model(), size)
        return world.asked(lambda: world.stage(artifacts))

    assert grows(worlds, files) == grows(worlds, variants) == LARGE


def test_artifacts_staged_already_cost_the_next_staging_nothing(worlds: Callable[[], World]) -> None:
    def files_there(world: World, size: int) -> Counter[str]:
        world.stage(published := world.artifacts(world.model(), 1, files=size))
        world.publish(published)  # so that they are taken out of there
        artifacts = world.artifacts(world.model(), 1)
        return world.asked(lambda: world.stage(artifacts))

    def models_there(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.stage(world.artifacts(world.model(), 1))
        artifacts = world.artifacts(world.model(), 1)
        return world.asked(lambda: world.stage(artifacts))

    assert grows(worlds, files_there) == grows(worlds, models_there) == {}
    there = files_there(worlds(), 3)
    assert there["GET /api/models"] == 1


def test_promoting_reads_three_records_of_each_variant_and_nothing_of_its_large_files(
    worlds: Callable[[], World],
) -> None:
    def promoted(world: World) -> Counter[str]:
        def step() -> None:
            report = promote((), world.context())
            assert report.failures == ()
            assert report.publications

        return world.asked(step)

    def files(world: World, size: int) -> Counter[str]:
        world.stage(world.artifacts(world.model(), 1, files=size))
        return promoted(world)

    def variants(world: World, size: int) -> Counter[str]:
        world.stage(world.artifacts(world.model(), size))
        return promoted(world)

    assert grows(worlds, files) == {}
    assert grows(worlds, variants) == {READ: 3}


def test_promoting_again_costs_a_list(worlds: Callable[[], World]) -> None:
    def again(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.stage(world.artifacts(world.model(), 1))
        assert len(promote((), world.context()).publications) == size
        return world.asked(lambda: promote((), world.context()))

    assert grows(worlds, again) == {}
    assert again(worlds(), 1) == {**HEADS, "GET /api/models": 1}


# ---- publishing, proposing, merging ----------------------------------------------------------------------------


def test_publishing_asks_for_no_more_than_the_upload_of_each_file(worlds: Callable[[], World]) -> None:
    def files(world: World, size: int) -> Counter[str]:
        artifacts = world.artifacts(world.model(), 1, files=size)
        return world.asked(lambda: world.publish(artifacts))

    def variants(world: World, size: int) -> Counter[str]:
        artifacts = world.artifacts(world.model(), size)
        return world.asked(lambda: world.publish(artifacts))

    assert grows(worlds, files) == grows(worlds, variants) == LARGE


def test_another_model_costs_its_own_repo_and_a_look_at_its_siblings(worlds: Callable[[], World]) -> None:
    def published(world: World, size: int) -> Counter[str]:
        artifacts = [a for _ in range(size) for a in world.artifacts(world.model(), 1)]
        return world.asked(lambda: world.publish(artifacts))

    grown = grows(worlds, published)
    assert grown.pop(f"GET {MODEL}") == 5  # is it there, where is it when it is made, and three siblings that are not
    assert grown == {
        f"GET {MODEL}/tree/{{revision}}/{{path*}}": 1,
        "POST /api/repos/create": 1,
        f"POST {MODEL}/preupload/{{revision}}": 1,
        "POST /{namespace}/{name}.git/info/lfs/objects/batch": 1,
        "POST /api/validate-yaml": 1,
        f"POST {MODEL}/commit/{{revision}}": 1,
        **LARGE,
    }


def test_publishing_again_costs_a_look_at_the_repo(worlds: Callable[[], World]) -> None:
    def again(world: World, size: int) -> Counter[str]:
        world.publish(artifacts := world.artifacts(world.model(), size))
        return world.asked(lambda: world.publish(artifacts))

    assert grows(worlds, again) == {}
    assert again(worlds(), 2) == RECORD


def proposal_of(world: World, size: int, *, files: int = 1) -> tuple[Counter[str], Release]:
    """What proposing so many variants, of so many files each, in a repo that is there asks for."""
    release = world.model()
    world.publish([proven.artifact(world.folder / "first", release, "gguf/q2_k")])
    artifacts = world.artifacts(release, size, files=files)
    approval = Approval(head=HEAD, models=(release.repo_id,), by="maintainer")

    def step() -> None:
        report = propose(artifacts, world.context(), pull=NAME, approval=approval)
        assert (len(report.proposals), report.failures) == (1, ())

    return world.asked(step), release


def test_proposing_asks_for_no_more_than_the_upload_of_each_file(worlds: Callable[[], World]) -> None:
    assert grows(worlds, lambda world, size: proposal_of(world, size)[0]) == LARGE
    assert grows(worlds, lambda world, size: proposal_of(world, 1, files=size)[0]) == LARGE


def test_merging_costs_the_same_for_any_number_of_variants_and_files(worlds: Callable[[], World]) -> None:
    def merged(world: World, size: int, files: int = 1) -> Counter[str]:
        _, release = proposal_of(world, size, files=files)

        def step() -> None:
            report = conclude(PULL, NAME, (release.repo_id,), world.context())
            assert (len(report.publications), report.failures) == (1, ())

        return world.asked(step)

    assert grows(worlds, merged) == {}
    assert grows(worlds, lambda world, size: merged(world, 1, size)) == {}


def test_concluding_asks_once_whose_the_token_is(worlds: Callable[[], World]) -> None:
    def concluded(world: World, size: int) -> Counter[str]:
        models = [world.model().repo_id for _ in range(size)]
        return world.asked(lambda: conclude(PULL, NAME, models, world.context()))

    homes = {naming.repo_of("me", "o/n", row) for row in catalogue.all_variants().values()}
    assert grows(worlds, concluded) == {f"GET {MODEL}/discussions": len(homes)}


# ---- watching, planning, fetching, remembering -----------------------------------------------------------------


def looked(world: World, memory: Memory) -> WatchedSources:
    """Watch, and find no fault."""
    found = watch(Reader(hub=world.hub), world.context(), memory=memory, now=NOW)
    assert len(found.sightings) == len(world.models)
    return found


def test_watching_reads_new_releases_and_lists_the_rest(worlds: Callable[[], World]) -> None:
    def new(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.model()
        return world.asked(lambda: looked(world, Memory()))

    def known(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.model()
        memory = Memory(sources=remembered(looked(world, Memory()), Memory(), world.config))
        return world.asked(lambda: looked(world, memory))

    one = {f"GET {MODEL}/revision/{{revision}}": 1, f"GET {MODEL}/tree/{{revision}}/{{path*}}": 1, READ: 1}
    assert grows(worlds, new) == one
    assert grows(worlds, known) == {}
    assert known(worlds(), 1) == {"GET /api/models": 1}


def planned(world: World, rows: Sequence[str], **how: Any) -> tuple[Counter[str], Plan]:
    """What planning all models asks for, and the plan."""
    found: list[Plan] = []

    def step() -> None:
        known = PlanInputs(namespace="me", there=world.hub.namespace("me"), now=NOW, **how)
        sightings = [source_state(release) for release in world.models]
        found.append(plan(sightings, catalogue.select(rows), reader=Reader(hub=world.hub), known=known)[0])

    return world.asked(step), found[0]


def test_planning_reads_a_release_of_which_something_is_to_be_built(worlds: Callable[[], World]) -> None:
    def variants(world: World, size: int) -> Counter[str]:
        world.model()
        asked, todo = planned(world, ROWS[:size])
        assert sum(len(job.variants) for job in todo.jobs) == size
        return asked

    def models_(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.model()
        return planned(world, ROWS[:1])[0]

    def done(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.publish(world.artifacts(world.model(), 1))
        asked, todo = planned(world, ROWS[:1])
        assert (len(todo.done), todo.jobs) == (size, ())
        return asked

    assert grows(worlds, variants) == {}
    assert grows(worlds, models_) == {
        f"GET {MODEL}/revision/{{revision}}": 1,
        f"GET {MODEL}/tree/{{revision}}/{{path*}}": 1,
        READ: 1,
    }
    assert grows(worlds, done) == {}


@pytest.mark.parametrize("policy", ["slowly", "never"])
def test_releases_outdated_by_a_new_lock_are_not_read_before_their_turn(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """With 500 models and one built anew in a run, each of 500 runs would read all of them."""
    lock = toolchains.lock_digest

    def outdated(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.publish(world.artifacts(world.model(), 1))
        with monkeypatch.context() as context:
            context.setattr(toolchains, "lock_digest", lambda name: digest_of([lock(name), "renewed"]))
            asked, todo = planned(world, ROWS[:1], outdated=policy)
        assert len(todo.jobs) == (policy == "slowly")
        assert len(todo.postponed) == size - len(todo.jobs)
        return asked

    assert grows(worlds, outdated) == {}


def test_a_repo_of_another_source_costs_one_question_for_each_model(worlds: Callable[[], World]) -> None:
    def contested(world: World, size: int) -> Counter[str]:
        for _ in range(size):
            world.publish(world.artifacts(world.model(), 1))
        world.models = [
            proven.release(
                world.running,
                m.repo_id.replace("microsoft", "azure"),
                model__safetensors=models.safetensors(models.TENSORS, fill=99),
            )
            for m in world.models
        ]
        asked, todo = planned(world, ROWS)
        assert len(todo.failures) == size * len(ROWS)
        return asked

    assert grows(worlds, contested) == {f"GET {MODEL}": 1}


def test_fetching_asks_for_the_header_of_each_file_and_for_all_of_it(worlds: Callable[[], World]) -> None:
    def fetched(world: World, size: int) -> Counter[str]:
        names = [f"model-{n:05}-of-{size:05}.safetensors" for n in range(1, size + 1)]
        layers = models.layers(len(names))
        tensors = {
            name: {t: of for t, of in layers.items() if t.startswith(f"model.layers.{n}.")}
            for n, name in enumerate(names)
        }
        tensors[names[0]] |= models.TENSORS
        index = {"metadata": {}, "weight_map": {t: name for name, ts in tensors.items() for t in ts}}
        world.api.create_repo("microsoft/Phi-sharded")
        files = models.files(model__safetensors=None) | {n: models.safetensors(t) for n, t in tensors.items()}
        files["model.safetensors.index.json"] = json.dumps(index).encode()
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        world.api.create_commit("microsoft/Phi-sharded", operations=operations, commit_message="it")
        release = world.hub.release("microsoft/Phi-sharded")
        return world.asked(lambda: fetch(release, world.context()))

    assert grows(worlds, fetched) == {ask: 2 * count for ask, count in FILE.items()}


def test_remembering_costs_the_same_however_much_it_is(worlds: Callable[[], World]) -> None:
    def kept(world: World, size: int) -> Counter[str]:
        seen = {f"microsoft/Phi-{n}": SeenSource(commit="a" * 40, content_digest="b" * 64) for n in range(size)}
        store = Store(hub=world.hub, repo_id="me/phi-bot-state")
        store.read()
        store.update(lambda memory: memory.with_sources({}), "Nothing")
        store.update(lambda memory: memory.with_sources(seen), "Begin")

        def step() -> None:
            again = Store(hub=world.hub, repo_id="me/phi-bot-state")
            again.read()
            assert len(again.memory.sources) == size
            again.update(lambda memory: memory.with_sources({}), "Forget")

        return world.asked(step)

    assert grows(worlds, kept) == {}


def test_the_status_page_reads_the_repos_that_changed(
    worlds: Callable[[], World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(world: World, size: int, *, twice: bool) -> Counter[str]:
        for _ in range(size):
            world.publish(world.artifacts(world.model(), 1))
        monkeypatch.chdir(world.folder)
        (world.folder / "phi-bot.toml").write_text('[publish]\nnamespace = "me"\n[build]\nvariants = ["gguf/q4_k_m"]\n')

        def step() -> None:
            arguments = ["status", "--endpoint", world.running.url, "--quiet"]
            done = CliRunner().invoke(cli, arguments, env={"HF_TOKEN": world.running.token})
            assert done.exit_code == 0, done.output

        if twice:
            step()
        return world.asked(step)

    grown = grows(worlds, lambda world, size: made(world, size, twice=False))
    again = grows(worlds, lambda world, size: made(world, size, twice=True))
    watching = {f"GET {MODEL}/revision/{{revision}}": 1, f"GET {MODEL}/tree/{{revision}}/{{path*}}": 1, READ: 1}
    assert Counter(grown) == Counter(watching) + Counter(RECORD)
    assert again == watching  # of the sources: nothing here remembers them
