"""What a pull request's code built: proposed on the Hub, merged with it, or closed with it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, WatchTable
from bot.context import Context
from bot.github import Pull
from bot.hub import client
from bot.localhub import RunningHub
from bot.reconvert.approval import Approval
from bot.reconvert.conclude import conclude
from bot.reconvert.propose import propose
from bot.records.artifacts import Artifact, Report
from bot.steps.publish import publish
from bot.workspace import read_artifact
from tests.contexts import context_of
from tests.hub.faulty import Fault, Proxy, proxy
from tests.steps import proven
from tests.steps.test_promote import proven_again, rewrite
from tests.steps.test_publish import no_plots as no_plots

REPO = "me/Phi-9-mini-GGUF"
LORA = "someone/Phi-9-tune"
NAME, HEAD = "o/r#7", "a" * 40

pytestmark = pytest.mark.usefixtures("no_plots")


class World:
    """A published model, and a pull request that changes how it is built. The model may be ``adapted``."""

    def __init__(self, hub: RunningHub, tmp_path: Path, *, adapted: bool = False) -> None:
        self.folder = tmp_path / "artifacts"
        self.client = client.connect(hub.url, hub.token)
        self.config = Config(
            watch=WatchTable(authors=("microsoft",)),
            build=BuildTable(work=tmp_path / "work"),
            publish=PublishTable(namespace="me"),
        )
        self.release = proven.release(hub)
        if adapted:
            self.release = proven.adapter(hub, LORA)
        report = publish([self.build("gguf/q8_0")], self.context())
        assert report.failures == ()

    def context(self) -> Context:
        return context_of(self.config, hub=self.client)

    def build(self, name: str = "gguf/q4_k_m") -> Artifact:
        return proven.artifact(self.folder, self.release, name)

    def propose(self, *artifacts: Artifact, head: str = HEAD, models: tuple[str, ...] = ()) -> Report:
        approval = Approval(head=head, models=models or (self.release.repo_id,), by="maintainer")
        return propose(artifacts, self.context(), pull=NAME, approval=approval)

    def conclude(self, *, merged: bool, head: str = HEAD) -> Report:
        pull = Pull(
            number=7,
            state="closed",
            merged=merged,
            head_sha=head,
            head_repository="o/r",
            labels=(),
            merge_commit="c" * 40 if merged else None,
        )
        return conclude(pull, NAME, (self.release.repo_id,), self.context())


@pytest.fixture
def world(hub: RunningHub, tmp_path: Path) -> World:
    return World(hub, tmp_path)


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def faulty(hub: RunningHub) -> Iterator[Proxy]:
    """A proxy in front of the Hub that does as it is told."""
    with proxy(hub.url) as running:
        yield running


def status(api: HfApi, number: int) -> str:
    return api.get_discussion_details(REPO, number).status


def test_a_candidate_can_be_tried_and_nothing_is_published(world: World, api: HfApi) -> None:
    before = api.list_repo_files(REPO)
    (proposal,) = world.propose(world.build()).proposals
    assert api.list_repo_files(REPO) == before
    tried = api.hf_hub_download(REPO, "Phi-9-mini-q4_k_m.gguf", revision=f"refs/pr/{proposal.number}")
    assert Path(tried).read_text() == "The weights of q4_k_m."
    assert [b.build.variant.name for b in proposal.builds] == ["gguf/q4_k_m"]
    assert NAME in api.get_discussion_details(REPO, proposal.number).title


def test_merging_here_merges_there(world: World, api: HfApi) -> None:
    (proposal,) = world.propose(world.build()).proposals
    report = world.conclude(merged=True)
    assert report.failures == ()
    assert [b.build.variant.name for p in report.publications for b in p.builds] == ["gguf/q4_k_m"]
    assert status(api, proposal.number) == "merged"
    found = world.client.record(REPO)
    assert found is not None
    assert [b.build.variant.name for b in found[0].builds] == ["gguf/q4_k_m", "gguf/q8_0"]
    assert world.conclude(merged=True) == Report()


def test_an_adapter_is_proposed_and_merged_with_the_commits_of_both(
    hub: RunningHub, tmp_path: Path, api: HfApi
) -> None:
    world = World(hub, tmp_path, adapted=True)
    base = world.release.base
    assert base is not None
    (proposal,) = world.propose(world.build()).proposals
    assert proposal.repo_id == "me/Phi-9-tune-GGUF"
    (built,) = proposal.builds
    assert built.build.base is not None
    assert (built.build.source.commit, built.build.base.commit) == (world.release.commit, base.commit)
    card = Path(api.hf_hub_download(proposal.repo_id, "README.md", revision=f"refs/pr/{proposal.number}"))
    assert f"{proven.MODEL}/tree/{base.commit}" in card.read_text(encoding="utf-8")
    assert world.conclude(merged=True).failures == ()
    found = world.client.record(proposal.repo_id)
    assert found is not None
    assert [b.build.variant.name for b in found[0].builds] == ["gguf/q4_k_m", "gguf/q8_0"]


def test_an_adapter_whose_base_has_changed_since_is_not_merged(hub: RunningHub, tmp_path: Path, api: HfApi) -> None:
    world = World(hub, tmp_path, adapted=True)
    (proposal,) = world.propose(world.build()).proposals
    api.upload_file(repo_id=proven.MODEL, path_in_repo="generation_config.json", path_or_fileobj=b'{"max_length": 9}')
    (failed,) = world.conclude(merged=True).failures
    assert "was made from other content" in failed.message
    assert api.get_discussion_details(proposal.repo_id, proposal.number).status == "closed"


def test_the_base_of_an_adapter_is_not_what_was_asked_for(hub: RunningHub, tmp_path: Path) -> None:
    world = World(hub, tmp_path, adapted=True)
    (failed,) = world.propose(world.build(), models=(proven.MODEL,)).failures
    assert failed.message == f"{LORA} is not the model that maintainer asked for"


def test_closing_here_closes_there(world: World, api: HfApi) -> None:
    (proposal,) = world.propose(world.build()).proposals
    before = api.model_info(REPO).sha
    assert world.conclude(merged=False) == Report()
    assert status(api, proposal.number) == "closed"
    assert api.model_info(REPO).sha == before


def test_a_newer_commit_takes_the_place_of_an_older_one(world: World, api: HfApi) -> None:
    (first,) = world.propose(world.build()).proposals
    (second,) = world.propose(world.build("gguf/q5_k_m"), head="d" * 40).proposals
    assert (status(api, first.number), status(api, second.number)) == ("closed", "open")


def test_proposed_again_there_is_one_pull_request(world: World, api: HfApi) -> None:
    artifact = world.build()
    assert world.propose(artifact).proposals == world.propose(artifact).proposals


def test_a_published_artifact_is_not_proposed(world: World) -> None:
    (published,) = world.folder.iterdir()
    assert world.propose(read_artifact(published)) == Report()


def test_a_candidate_is_not_merged_after_a_later_push(world: World, api: HfApi) -> None:
    (proposal,) = world.propose(world.build()).proposals
    report = world.conclude(merged=True, head="e" * 40)
    assert [f.message for f in report.failures] == ["it was built from another commit than eeeeeeeeeeee"]
    assert status(api, proposal.number) == "closed"


def test_a_recipe_that_was_not_merged_as_it_was_is_built_anew(world: World, api: HfApi) -> None:
    def other_recipe(build: dict[str, Any]) -> None:
        build["variant"]["options"]["type"] = "Q4_K_S"
        build["build_key"] = "f" * 64

    changed = rewrite(world.build(), "build.json", other_recipe)
    (proposal,) = world.propose(
        proven_again(rewrite(changed, "evidence.json", lambda e: e.update(build_key="f" * 64)))
    ).proposals
    report = world.conclude(merged=True)
    assert "another recipe" in report.failures[0].message
    assert status(api, proposal.number) == "closed"


MERGE = r"/discussions/\d+/merge"
TREE = r"/tree/(refs%2Fpr%2F|[0-9a-f]{40})"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="POST", path=MERGE, status=503),
        Fault(method="POST", path=MERGE, status=429),
        Fault(method="POST", path=MERGE, refuse=True),
        Fault(method="POST", path=MERGE, status=403),  # a token that lost its right
        Fault(method="GET", path=TREE, status=500),
        Fault(method="GET", path="/resolve/.*phi-bot.json", body=b"", times=1),
        Fault(method="GET", path="/api/models/microsoft/", lose=True),
    ],
    ids=["503", "429", "gone", "no right", "list", "record", "source"],
)
def test_a_proposal_that_the_hub_fails_to_merge_stays_open_and_is_merged_the_next_time(
    world: World, api: HfApi, faulty: Proxy, hub: RunningHub, at_once: None, fault: Fault
) -> None:
    (proposal,) = world.propose(world.build()).proposals
    world.client = client.connect(faulty.url, hub.token)
    faulty.faults.append(replace(fault))
    assert world.conclude(merged=True).failures
    assert status(api, proposal.number) == "open"
    faulty.faults.clear()
    faulty.listen()
    assert world.conclude(merged=True).failures == ()
    assert status(api, proposal.number) == "merged"


def test_a_proposal_behind_a_changed_main_is_refused_and_closed(world: World, api: HfApi, faulty: Proxy) -> None:
    (proposal,) = world.propose(world.build()).proposals
    api.upload_file(repo_id=REPO, path_in_repo="README.md", path_or_fileobj=b"Mine")
    (failed,) = world.conclude(merged=True).failures
    assert "cannot be merged" in failed.message
    assert status(api, proposal.number) == "closed"


def test_an_older_proposal_that_the_hub_does_not_close_hides_no_new_one(
    world: World, api: HfApi, faulty: Proxy, hub: RunningHub, at_once: None
) -> None:
    (first,) = world.propose(world.build()).proposals
    world.client = client.connect(faulty.url, hub.token)
    faulty.faults.append(Fault(method="POST", path=r"/discussions/\d+/status", status=503))
    report = world.propose(world.build("gguf/q5_k_m"), head="d" * 40)
    (second,) = report.proposals
    assert report.failures == ()
    assert (status(api, first.number), status(api, second.number)) == ("open", "open")
    faulty.faults.clear()
    world.conclude(merged=True, head="d" * 40)
    assert (status(api, first.number), status(api, second.number)) == ("closed", "merged")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("modeling.py", "modeling.py"), ("Phi-9-mini-q4_k_m.gguf", "sha256"), ("Phi-9-mini-q8_0.gguf", "q8_0.gguf")],
)
def test_a_file_that_somebody_put_into_the_pull_request(world: World, api: HfApi, path: str, reason: str) -> None:
    (proposal,) = world.propose(world.build()).proposals
    api.upload_file(repo_id=REPO, path_in_repo=path, path_or_fileobj=b"evil", revision=f"refs/pr/{proposal.number}")
    report = world.conclude(merged=True)
    assert reason in report.failures[0].message
    assert status(api, proposal.number) == "closed"
    assert "modeling.py" not in api.list_repo_files(REPO)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b["files"][0].update(path="modeling.py"), "not one of GGUF"),
        (lambda b: b["files"][0].update(sha256="0" * 64), "not as it was built"),
        (lambda b: b["source"].update(repo_id="evil/Phi-9-mini"), "not the model that maintainer asked for"),
        (lambda b: b["source"].update(content_digest="0" * 64), "other content"),
        (lambda b: b["source"].update(commit=None), "a folder of another machine"),
    ],
)
def test_a_pull_requests_code_cannot_forge_its_build(
    world: World, api: HfApi, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    report = world.propose(proven_again(rewrite(world.build(), "build.json", change)))
    assert report.proposals == ()
    assert reason in report.failures[0].message


def test_a_licence_that_leads_elsewhere(world: World, tmp_path: Path) -> None:
    artifact = world.build()
    secret = tmp_path / "secret"
    secret.write_text("a token")
    licence = Path(artifact.folder) / "notices" / "LICENSE"
    licence.unlink()
    licence.symlink_to(secret)
    assert "is not a licence" in world.propose(artifact).failures[0].message


def test_a_repo_that_is_not_there_is_not_made(world: World, api: HfApi) -> None:
    report = world.propose(world.build("mlx/4bit"))
    assert "there is no me/Phi-9-mini-mlx-4bit" in report.failures[0].message
    assert not api.repo_exists("me/Phi-9-mini-mlx-4bit")


def test_the_pull_requests_of_others_are_left_alone(world: World, api: HfApi) -> None:
    other = api.create_pull_request(REPO, title="o/r#8@aaaaaaaaaaaa: gguf/q2_k")
    world.propose(world.build())
    world.conclude(merged=False)
    assert status(api, other.num) == "draft"
