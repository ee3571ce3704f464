"""What merging has built anew: the bot's own planning on both sides, over a namespace on the embedded Hub."""

import json
from pathlib import Path

import pytest

from bot.hub import client
from bot.localhub import RunningHub
from bot.pages import cards
from bot.progress import Silent
from bot.reconvert.child import code_of
from bot.reconvert.rebuilds import rebuilds
from bot.records.artifacts import RECORD_VERSION, Artifact, ProvenBuild, Release, RepoRecord
from bot.source.prompt import Prompt
from tests.page_reader import ROOT
from tests.reconvert.trees import Q4_K_M, change, checkout
from tests.steps import proven

pytestmark = pytest.mark.process

OTHER = 'options = { ftype = "Q4_K_S", other = true }'


@pytest.fixture
def released(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A model of microsoft's on a Hub that children find."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    return proven.release(hub)


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A checkout like ours."""
    return checkout(tmp_path / "head")


def publish(hub: RunningHub, artifact: Artifact, release: Release) -> None:
    """Have an artifact in the namespace demo, as far as planning looks."""
    assert artifact.evidence is not None
    build = ProvenBuild(build=artifact.build, evidence=artifact.evidence)
    record = RepoRecord(version=RECORD_VERSION, builds=(build,))
    repo_id = f"demo/{release.name}-GGUF"
    card = cards.render_card(record=record, repo_id=repo_id, release=release, prompt=Prompt())
    files: dict[str, Path | bytes] = {"README.md": card.encode(), "phi-bot.json": json.dumps(record.to_json()).encode()}
    with Silent().task("") as task:
        client.connect(hub.url, hub.token).commit(repo_id, files=files, parent=None, message="Publish", task=task)


def test_publications_of_a_changed_recipe_are_built_again(
    hub: RunningHub, released: Release, head: Path, tmp_path: Path
) -> None:
    publish(hub, proven.artifact(tmp_path / "artifacts", released), released)
    change(head, "bot/formats/gguf/variants.toml", Q4_K_M, OTHER)
    found = rebuilds(code_of(ROOT), code_of(head), "demo")
    assert found.problem == ""
    (job,) = found.jobs  # the other default variants are not published yet: the base would build them too
    assert (job.release, job.variants, job.reason) == (released.label, ("gguf/q4_k_m",), "outdated")
    assert job.runner.startswith("github/")
    assert job.seconds > 0
    assert job.cost == 0


def test_builds_that_are_due_in_any_case_are_not_counted_for_the_change(released: Release, head: Path) -> None:
    change(head, "bot/formats/gguf/variants.toml", Q4_K_M, OTHER)
    assert rebuilds(code_of(ROOT), code_of(head), "demo").jobs == ()


def test_variants_that_only_the_heads_configuration_asks_for_are_built(released: Release, head: Path) -> None:
    (head / "phi-bot.toml").write_text('[build]\nvariants = ["gguf/q6_k"]\n[plan]\nmax_jobs = 1\n')
    found = rebuilds(code_of(ROOT), code_of(head), "demo")
    assert [(j.release, j.variants, j.reason) for j in found.jobs] == [(released.label, ("gguf/q6_k",), "new")]


def test_models_that_are_watched_no_more_are_named(released: Release, head: Path) -> None:
    (head / "phi-bot.toml").write_text('[watch]\nexclude = ["*mini*"]\n')
    found = rebuilds(code_of(ROOT), code_of(head), "demo")
    assert (found.watched, found.unwatched, found.jobs) == ((), (released.repo_id,), ())
    assert rebuilds(code_of(head), code_of(ROOT), "demo").watched == (released.repo_id,)


def test_that_the_hub_does_not_answer_is_said(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = rebuilds(code_of(ROOT), code_of(head), "demo")
    assert found.jobs == ()
    assert "127.0.0.1:9" in found.problem
