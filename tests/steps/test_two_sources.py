"""Two models of one name: a repo is one model's, on every way into it, and neither cycle undoes the other's."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot import catalogue
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, RunTable, WatchTable
from bot.context import Context
from bot.errors import OtherSourceError
from bot.github import Pull
from bot.hf_jobs.run import submit
from bot.hub import client
from bot.localhub import RunningHub
from bot.publishing.early_upload import LARGE_BYTES, EarlyUpload
from bot.reconvert.approval import Approval
from bot.reconvert.conclude import conclude
from bot.reconvert.propose import propose
from bot.records.artifacts import Artifact, Release, Report
from bot.records.plans import Plan
from bot.steps.plan import PlanInputs, plan
from bot.steps.promote import promote
from bot.steps.publish import Owners, publish, publish_target
from bot.steps.run import TO_SEE, watch_and_plan
from bot.steps.stage import stage
from bot.steps.watch import Reader, source_state
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.reconvert.test_conclude import HEAD, NAME
from tests.source import models
from tests.steps import proven
from tests.steps.test_publish import Said
from tests.steps.test_publish import no_plots as no_plots

ONE, OTHER = "microsoft/Phi-9-mini", "azure/Phi-9-mini"
REPO = "me/Phi-9-mini-GGUF"
ROWS = ["gguf/q4_k_m", "gguf/q8_0"]

PULL = Pull(
    number=7,
    state="closed",
    merged=True,
    head_sha=HEAD,
    head_repository="o/r",
    labels=(),
    merge_commit="c" * 40,
)

pytestmark = pytest.mark.usefixtures("no_plots")


class World:
    """Two authors with a model of the same name."""

    def __init__(self, hub: RunningHub, tmp_path: Path) -> None:
        self.hub, self.folder, self.said = client.connect(hub.url, hub.token), tmp_path, Said()
        self.api = HfApi(endpoint=hub.url, token=hub.token)
        self.one = proven.release(hub, ONE)
        self.other = proven.release(hub, OTHER, model__safetensors=models.safetensors(models.TENSORS, fill=7))
        assert self.one.content_digest != self.other.content_digest
        self.config = Config(
            run=RunTable(),
            watch=WatchTable(authors=("microsoft", "azure")),
            build=BuildTable(work=tmp_path / "work"),
            publish=PublishTable(namespace="me"),
        )

    def named(self, template: str) -> None:
        """Name repos by a template from here on."""
        self.config = replace(self.config, publish=replace(self.config.publish, repo=template))

    def build(self, release: Release, name: str = "gguf/q4_k_m", **how: Any) -> Artifact:
        return proven.artifact(self.folder / release.repo_id.replace("/", "-"), release, name, **how)

    def context(self) -> Context:
        return context_of(self.config, hub=self.hub, display=self.said)

    def publish(self, *artifacts: Artifact) -> Report:
        return publish(artifacts, self.context())

    def plan(self, *releases: Release, rows: Sequence[str] = ROWS) -> Plan:
        known = PlanInputs(
            namespace="me",
            there=self.hub.namespace("me"),
            template=self.config.publish.repo,
            now=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
        )
        sightings = [source_state(r) for r in releases or (self.one, self.other)]
        return plan(sightings, catalogue.select(rows), reader=Reader(hub=self.hub), known=known)[0]

    def state(self, repo_id: str = REPO) -> tuple[str, set[str]]:
        """Where the repo is, and what its record says it was made from."""
        found = self.hub.record(repo_id)
        assert found is not None
        return found[1], {b.build.source.repo_id for b in found[0].builds}


@pytest.fixture
def world(hub: RunningHub, tmp_path: Path) -> World:
    return World(hub, tmp_path)


def refused(report: Report | Plan, *variants: str) -> str:
    """Return what is said of the variants, all of which go into a repo that is another model's."""
    assert [(f.variant, f.exit_code) for f in report.failures] == [(v, OtherSourceError.exit_code) for v in variants]
    (message,) = {f.message for f in report.failures}
    assert all("publish.repo in phi-bot.toml" in f.hint for f in report.failures)
    return message


def jobs(todo: Plan) -> dict[str, list[str]]:
    return {j.release.repo_id: sorted(v.repo_id for v in j.variants) for j in todo.jobs}


# ---- planning: nothing is built for hours first ------------------------------------------------------------------


def test_of_two_that_are_new_the_first_is_built_and_the_other_is_told_where_it_would_go(world: World) -> None:
    todo = world.plan()
    assert jobs(todo) == {ONE: [REPO, REPO]}
    assert refused(todo, *ROWS) == f"{REPO} is for {ONE}, so {OTHER} cannot go there"


def test_names_that_differ_in_capitals_alone_are_one_repo(world: World) -> None:
    other = replace(world.other, repo_id="azure/phi-9-MINI")
    todo = world.plan(world.one, other)
    assert jobs(todo) == {ONE: [REPO, REPO]}
    assert refused(todo, *ROWS) == f"me/phi-9-MINI-GGUF is for {ONE}, so azure/phi-9-MINI cannot go there"
    world.publish(world.build(world.one))
    assert refused(world.plan(other), *ROWS) == f"{REPO} holds files made from {ONE}, not from azure/phi-9-MINI"


def test_in_no_cycle_one_undoes_the_other(world: World) -> None:
    artifacts = {r.repo_id: [world.build(r, name) for name in ROWS] for r in (world.one, world.other)}
    world.publish(*artifacts[OTHER])  # it was there before the first one was watched
    before = world.state()
    for _ in range(3):
        todo = world.plan()
        assert refused(todo, *ROWS) == f"{REPO} holds files made from {OTHER}, not from {ONE}"
        assert (jobs(todo), len(todo.done)) == ({}, 2)
        world.publish(*(a for job in todo.jobs for a in artifacts[job.release.repo_id]))
    assert world.state() == before


def test_a_repo_in_which_two_are_mixed_already_is_refused_before_anything_is_built(world: World) -> None:
    world.publish(world.build(world.one))
    found = world.hub.record(REPO)
    assert found is not None
    (mine,) = found[0].builds
    name = "gguf/q8_0"
    theirs = replace(mine.build.source, repo_id=OTHER, content_digest=world.other.content_digest)
    variant = catalogue.all_variants()[name]
    mixed = replace(mine, build=replace(mine.build, source=theirs, variant=variant, build_key="9" * 64))
    record = replace(found[0], builds=(mine, mixed)).to_json()
    operation = CommitOperationAdd("phi-bot.json", json.dumps(record).encode())
    world.api.create_commit(REPO, operations=[operation], commit_message="as it was once")  # the card says nothing
    todo = world.plan(world.one, rows=["gguf/q6_k"])
    assert refused(todo, "gguf/q6_k") == f"{REPO} holds files made from {OTHER}, not from {ONE}"
    assert todo.jobs == ()


def test_another_template_keeps_them_apart(world: World) -> None:
    world.named("{owner}-{name}{suffix}")
    todo = world.plan()
    assert jobs(todo) == {ONE: ["me/microsoft-Phi-9-mini-GGUF"] * 2, OTHER: ["me/azure-Phi-9-mini-GGUF"] * 2}
    assert todo.failures == ()
    report = world.publish(world.build(world.one), world.build(world.other))
    assert [p.repo_id for p in report.publications] == ["me/azure-Phi-9-mini-GGUF", "me/microsoft-Phi-9-mini-GGUF"]
    assert [v.variant.name for v in world.plan(rows=ROWS[:1]).done] == ROWS[:1] * 2


def test_a_look_and_jobs_elsewhere_begin_nothing_of_the_other(world: World) -> None:
    context = Context(
        config=world.config, workspace=Workspace(root=world.folder / "work"), hub=world.hub, display=world.said
    )
    for wanted in ((ONE, OTHER), ()):
        cycle = watch_and_plan(wanted, catalogue.select(ROWS), context, TO_SEE.on_runners(("hf-jobs",)).by_sizes())
        assert {j.release.repo_id for j in cycle.todo.jobs} <= {ONE, OTHER}
        assert len(cycle.todo.jobs) == 1
        refused(cycle.todo, *ROWS)
    none = submit(replace(cycle.todo, jobs=()), world.context())
    assert none == Report()


def test_a_copy_with_the_same_content_has_nothing_to_do(world: World, hub: RunningHub) -> None:
    world.publish(world.build(world.one), world.build(world.one, "gguf/q8_0"))
    copy = proven.release(hub, "mirror/Phi-9-mini")
    todo = world.plan(copy)
    assert (todo.jobs, todo.failures, len(todo.done)) == ((), (), 2)


# ---- writing: whoever comes here without a plan ------------------------------------------------------------------


def test_publishing_leaves_repos_of_another_source_as_they_are(world: World) -> None:
    world.publish(world.build(world.one))
    before = world.state()
    report = world.publish(world.build(world.other), world.build(world.other, "onnx/cpu-int4"))
    assert refused(report, "gguf/q4_k_m").endswith(f"-GGUF holds files made from {ONE}, not from {OTHER}")
    assert [p.repo_id for p in report.publications] == ["me/Phi-9-mini-onnx"]  # it holds up nothing else
    assert world.state() == before


def test_of_two_in_one_publishing_the_first_is_there_and_the_other_is_not(world: World) -> None:
    report = world.publish(world.build(world.other), world.build(world.one), world.build(world.other, "gguf/q8_0"))
    refused(report, "gguf/q4_k_m")
    assert [f.release for f in report.failures] == [world.one.label]
    assert world.state()[1] == {"azure/Phi-9-mini"}


def test_large_files_of_the_other_are_not_uploaded_ahead(world: World) -> None:
    world.publish(world.build(world.one))
    artifact = world.build(world.other)
    [file] = artifact.build.files
    (Path(artifact.folder) / "files" / file.path).write_bytes(bytes(LARGE_BYTES))
    blobs = {p.name for p in (world.folder / "hub" / "blobs").rglob("*")}

    with EarlyUpload(
        world.hub, partial(publish_target, namespace="me", private=False), world.said, Owners(hub=world.hub)
    ) as ahead:
        ahead.offer(artifact)
    assert world.said.lines[-1].startswith(f"gguf/q4_k_m was not uploaded ahead: {REPO} holds files made from {ONE}")
    assert {p.name for p in (world.folder / "hub" / "blobs").rglob("*")} == blobs


def test_the_other_is_neither_staged_nor_promoted(world: World) -> None:
    def promoted(*config: Config) -> Report:
        return promote((), replace(world.context(), config=(*config, world.config)[0]))

    def staged(*artifacts: Artifact) -> Report:
        return stage(artifacts, world.context())

    both = staged(world.build(world.one), world.build(world.other))  # nobody can know whose it will be
    assert len(both.staged) == 2
    report = promoted()
    assert refused(report, "gguf/q4_k_m").startswith(f"{REPO} holds files made from ")
    before = world.state()
    (owner,) = before[1]
    for _ in range(2):
        refused(promoted(replace(world.config, run=RunTable(dry_run=True))), "gguf/q4_k_m")
        refused(promoted(), "gguf/q4_k_m")
    second = world.one if owner == OTHER else world.other
    refused(staged(world.build(second, "gguf/q8_0")), "gguf/q8_0")
    assert world.state() == before


def test_the_other_is_neither_proposed_nor_merged(world: World) -> None:
    approval = Approval(head=HEAD, models=(ONE, OTHER), by="maintainer")
    world.publish(world.build(world.one, "gguf/q8_0"))
    before = world.state()

    def proposed(artifact: Artifact) -> Report:
        return propose([artifact], world.context(), pull=NAME, approval=approval)

    refused(proposed(world.build(world.other)), "gguf/q4_k_m")
    assert list(world.api.get_repo_discussions(REPO)) == []
    mine = proposed(world.build(world.one))
    assert len(mine.proposals) == 1

    # Between proposing and merging the repo became another model's.
    world.api.delete_repo(REPO)
    world.publish(world.build(world.other, "gguf/q8_0"))
    before = world.state()
    concluded = conclude(PULL, NAME, (ONE,), world.context())
    assert concluded.publications == ()
    assert world.state() == before


# ---- renamed on the Hub ------------------------------------------------------------------------------------------


def test_a_model_that_was_renamed_is_the_same_one(world: World, hub: RunningHub) -> None:
    """The Hub leads from the old name to the new one; a model of the old name that is made later is another one."""
    world.publish(world.build(world.one))
    world.api.move_repo(ONE, moved := "new-home/Phi-9-mini")
    world.api.upload_file(
        repo_id=moved,
        path_in_repo="model.safetensors",
        path_or_fileobj=models.safetensors(models.TENSORS, fill=9),
    )
    changed = world.hub.release(ONE)  # by its old name
    assert changed.repo_id == moved
    todo = world.plan(changed)
    assert (todo.failures, jobs(todo)) == ((), {moved: [REPO, REPO]})
    assert world.publish(*(world.build(changed, name) for name in ROWS)).failures == ()
    assert world.state()[1] == {moved}
    again = world.plan(changed)
    assert (again.jobs, again.failures, len(again.done)) == ((), (), 2)

    late = proven.release(hub, ONE, model__safetensors=models.safetensors(models.TENSORS, fill=3))
    assert refused(world.plan(late), *ROWS) == f"{REPO} holds files made from {moved}, not from {ONE}"
    assert refused(world.publish(world.build(late, "gguf/q6_k")), "gguf/q6_k")
    assert world.plan(changed).jobs == ()  # and the other way round nothing is undone
