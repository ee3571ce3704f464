"""Cards of artifacts, as a command, and how they differ between two sides."""

from pathlib import Path

import pytest

from bot.errors import RecordError, VerifyError
from bot.localhub import RunningHub
from bot.reconvert.cards import card, difference
from bot.reconvert.child import code_of
from bot.records.artifacts import Release
from tests.page_reader import ROOT
from tests.reconvert.trees import change, checkout
from tests.steps import proven

HUB = "https://huggingface.co"


@pytest.fixture
def release(hub: RunningHub) -> Release:
    return proven.release(hub)


def test_a_card_is_of_all_artifacts_that_share_a_repo(release: Release, tmp_path: Path) -> None:
    folders = [Path(proven.artifact(tmp_path, release, name).folder) for name in ("gguf/q8_0", "gguf/q4_k_m")]
    text = card(folders, namespace="demo", endpoint=HUB)
    assert f"# {release.name}, GGUF" in text
    assert "Phi-9-mini-q4_k_m.gguf" in text
    assert "Phi-9-mini-q8_0.gguf" in text


def test_artifacts_of_several_repos_have_no_card(release: Release, tmp_path: Path) -> None:
    folders = [Path(proven.artifact(tmp_path, release, name).folder) for name in ("gguf/q8_0", "mlx/4bit")]
    with pytest.raises(RecordError, match="artifacts of 2 repos"):
        card(folders, namespace="demo", endpoint=HUB)


def test_an_artifact_without_evidence_has_no_card(release: Release, tmp_path: Path) -> None:
    folder = Path(proven.artifact(tmp_path, release).folder)
    (folder / "evidence.json").unlink()
    with pytest.raises(VerifyError, match="no evidence"):
        card([folder], namespace="demo", endpoint=HUB)


@pytest.mark.process
def test_the_diff_shows_the_change_of_the_template(release: Release, tmp_path: Path) -> None:
    folder = Path(proven.artifact(tmp_path / "artifacts", release).folder)
    head = checkout(tmp_path / "head")
    change(head, "templates/_card.md.j2", "## Measurements", "## What we measured")
    found = difference("gguf", code_of(ROOT), code_of(head), folder, namespace="demo")
    lines = found.diff.splitlines()
    assert found.problem == ""
    assert lines[:2] == ["--- base", "+++ head"]
    changed = [line for line in lines[2:] if line[0] in "+-"]
    assert changed == ["-## Measurements", "+## What we measured"]


@pytest.mark.process
def test_a_template_that_is_broken_is_named(release: Release, tmp_path: Path) -> None:
    folder = Path(proven.artifact(tmp_path / "artifacts", release).folder)
    head = checkout(tmp_path / "head")
    change(head, "templates/_card.md.j2", "## Measurements", "{{ nothing.there }}")
    found = difference("gguf", code_of(ROOT), code_of(head), folder, namespace="demo")
    assert found.diff == ""
    assert found.problem.startswith("the head renders no card: ")
    assert "'nothing' is undefined" in found.problem
