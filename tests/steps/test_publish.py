"""Proven artifacts become repos: files, card, record and pictures, in one commit each."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from bot import toolchains
from bot.building.cleaning import PUBLISHED_FILE
from bot.hub import client
from bot.localhub import RunningHub
from bot.progress import Silent, Task
from bot.records.artifacts import Artifact, FileEntry, ProvenBuild, Report
from bot.steps.publish import publish
from bot.workspace import Workspace, read_json, write_json
from tests.contexts import context_of
from tests.pages.cards.examples import GGUF, MLX, ONNX, OPENVINO, RELEASE, sha256
from tests.toolchains.index import HEAD, lock, wheel

GGUF_REPO, MLX_REPO = "me/Phi-3.5-mini-instruct-GGUF", "me/Phi-3.5-mini-instruct-mlx-4bit"


class Said(Silent):
    """A display that remembers the lines it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def no_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a machine on which the toolchain ``plots`` cannot be installed."""
    folder = tmp_path / "toolchains"
    shutil.copytree(toolchains.FOLDER, folder, ignore=lambda _, names: [n for n in names if not n.endswith(".txt")])
    text = lock(wheel(tmp_path, "first"))
    nowhere = "# /// toolchain\n# disk = 1\n# imports = []\n# platforms = {}\n# ///\n"
    (folder / "plots.txt").write_text(text.replace(HEAD.format(disk=1, imports=""), nowhere))
    monkeypatch.setattr(toolchains, "FOLDER", folder)
    monkeypatch.setenv("PHI_BOT_CACHE", str(tmp_path / "cache"))  # each try to install it leaves a lock file


def artifact(folder: Path, proven: ProvenBuild) -> Artifact:
    """Leave what building and verifying leave of one small file."""
    name = proven.build.variant.short_name
    (folder / name / "files").mkdir(parents=True)
    (folder / name / "files" / f"{name}.bin").write_text(f"The weights of {name}.")
    write_json(folder / name / "release.json", RELEASE.to_json())
    files = (FileEntry(path=f"{name}.bin", size=23, sha256=sha256(name)),)
    build = replace(proven.build, files=files)
    return Artifact(folder=str(folder / name), build=build, evidence=proven.evidence)


def published(hub: RunningHub, *artifacts: Artifact, display: Silent | None = None) -> Report:
    there = client.connect(hub.url, hub.token)
    return publish(
        artifacts,
        context_of(
            namespace="me",
            workspace=Workspace(root=hub.hub.folder.parent / "work"),
            hub=there,
            display=display or Silent(),
        ),
    )


def files(hub: RunningHub, repo_id: str) -> set[str]:
    api = HfApi(endpoint=hub.url, token=hub.token)
    return set(api.list_repo_files(repo_id)) if api.repo_exists(repo_id) else set()


def card(hub: RunningHub, repo_id: str) -> str:
    path = hf_hub_download(repo_id, "README.md", endpoint=hub.url, token=hub.token)
    return Path(path).read_text(encoding="utf-8")


def titles(hub: RunningHub, repo_id: str) -> list[str]:
    return [c.title for c in HfApi(endpoint=hub.url, token=hub.token).list_repo_commits(repo_id)]


def test_an_artifact_without_evidence_is_not_published(hub: RunningHub, tmp_path: Path, no_plots: None) -> None:
    report = published(hub, replace(artifact(tmp_path, MLX.builds[0]), evidence=None))
    assert [f.message for f in report.failures] == ["mlx/4bit has no evidence that it passed"]
    assert report.publications == ()


def test_this_machine_remembers_its_published_artifacts(hub: RunningHub, tmp_path: Path, no_plots: None) -> None:
    """So cleaning knows what can be had again; what was refused waits."""
    sent, refused = (artifact(tmp_path, proven) for proven in (MLX.builds[0], GGUF.builds[0]))
    published(hub, sent, replace(refused, evidence=None))
    assert read_json(Path(sent.folder) / PUBLISHED_FILE) == {"repo_id": MLX_REPO}
    assert not (Path(refused.folder) / PUBLISHED_FILE).exists()


def test_without_the_toolchain_cards_come_without_pictures_and_that_is_said_once(
    hub: RunningHub, tmp_path: Path, no_plots: None
) -> None:
    said = Said()
    report = published(hub, *(artifact(tmp_path, b) for b in (*GGUF.builds, *MLX.builds)), display=said)
    assert [p.repo_id for p in report.publications] == [GGUF_REPO, MLX_REPO]
    assert files(hub, MLX_REPO) == {".gitattributes", "README.md", "phi-bot.json", "phi-bot.intoto.jsonl", "4bit.bin"}
    assert "![" not in card(hub, MLX_REPO)
    (line,) = said.lines
    assert line.startswith(
        "The cards come without pictures: the toolchain plots cannot be installed here: it is locked"
    )


@pytest.mark.toolchain
def test_a_repo_shows_all_formats_that_are_known_by_then(hub: RunningHub, tmp_path: Path) -> None:
    published(hub, *(artifact(tmp_path, b) for b in GGUF.builds))
    alone = hf_hub_download(GGUF_REPO, "quality.png", endpoint=hub.url, token=hub.token)
    published(hub, *(artifact(tmp_path, b) for b in (*MLX.builds, *OPENVINO.builds)))
    assert {"quality.png", "positions.png"} <= files(hub, MLX_REPO)
    assert "](quality.png)" in card(hub, MLX_REPO)
    assert "](positions.png)" in card(hub, MLX_REPO)
    together = hf_hub_download(MLX_REPO, "quality.png", endpoint=hub.url, token=hub.token)
    assert Path(alone).read_bytes() != Path(together).read_bytes()
    assert titles(hub, MLX_REPO) == ["Add mlx/4bit of microsoft/Phi-3.5-mini-instruct@2fe192450127", "initial commit"]


@pytest.mark.toolchain
def test_published_again_nothing_is_committed_though_more_is_known(hub: RunningHub, tmp_path: Path) -> None:
    first = published(hub, *(artifact(tmp_path, b) for b in GGUF.builds))
    published(hub, *(artifact(tmp_path / "others", b) for b in ONNX.builds))
    again = published(hub, *(artifact(tmp_path / "again", b) for b in GGUF.builds))
    assert [p.created for p in again.publications] == [False]
    assert [p.commit for p in again.publications] == [p.commit for p in first.publications]


@pytest.mark.toolchain
def test_pictures_that_cannot_be_drawn_anew_are_taken_away(
    hub: RunningHub, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    published(hub, *(artifact(tmp_path, b) for b in GGUF.builds[:2]))
    assert "quality.png" in files(hub, GGUF_REPO)
    request.getfixturevalue("no_plots")
    published(hub, *(artifact(tmp_path, b) for b in GGUF.builds[2:]))
    assert not {"quality.png", "positions.png"} & files(hub, GGUF_REPO)
    assert "![" not in card(hub, GGUF_REPO)


# ---- two at once ---------------------------------------------------------------------------------------------


def at_once(hub: RunningHub, *shares: Sequence[Artifact]) -> list[Report]:
    """Publish shares of artifacts at the same moment."""
    gate = threading.Barrier(len(shares))

    def work(share: Sequence[Artifact]) -> Report:
        gate.wait()
        return published(hub, *share)

    with ThreadPoolExecutor(len(shares)) as pool:
        reports = list(pool.map(work, shares))
    assert not any(r.failures for r in reports)
    return reports


@pytest.mark.usefixtures("no_plots")
def test_of_two_with_the_same_artifacts_one_commits_and_the_other_sees_it(hub: RunningHub, tmp_path: Path) -> None:
    share = [artifact(tmp_path, b) for b in (*GGUF.builds, *MLX.builds)]
    one, other = at_once(hub, share, share)
    assert len(titles(hub, GGUF_REPO)) == len(titles(hub, MLX_REPO)) == 2
    assert [(p.repo_id, p.commit, p.builds) for p in one.publications] == [
        (p.repo_id, p.commit, p.builds) for p in other.publications
    ]


@pytest.mark.usefixtures("no_plots")
def test_who_was_slower_is_told_that_nothing_is_left_to_do(hub: RunningHub, tmp_path: Path) -> None:
    late = artifact(tmp_path, MLX.builds[0])

    class Overtaken(Said):
        """Somebody else publishes the same in the moment before this one does."""

        @contextmanager
        def task(self, title: str) -> Iterator[Task]:
            if title.startswith("Publishing") and not files(hub, MLX_REPO):
                published(hub, artifact(tmp_path / "other", MLX.builds[0]))
            with super().task(title) as task:
                yield task

    said = Overtaken()
    (publication,) = published(hub, late, display=said).publications
    assert not publication.created
    assert [line.partition(MLX_REPO)[2] for line in said.lines if MLX_REPO in line] == [
        " at the same moment: reading what is there now",
        " holds all of it already: nothing left to do",
    ]


@pytest.mark.usefixtures("no_plots")
def test_of_four_with_different_variants_of_one_repo_all_are_in_it(hub: RunningHub, tmp_path: Path) -> None:
    shares = [[artifact(tmp_path, b)] for b in GGUF.builds]
    at_once(hub, *shares)
    found = client.connect(hub.url, hub.token).record(GGUF_REPO)
    assert found is not None
    assert [b.build.build_key for b in found[0].builds] == [b.build.build_key for b in GGUF.builds]
    assert {f"{b.build.variant.short_name}.bin" for b in GGUF.builds} <= files(hub, GGUF_REPO)
    assert len(titles(hub, GGUF_REPO)) == 1 + len(shares)
    for b in GGUF.builds:
        assert b.build.variant.name in card(hub, GGUF_REPO)


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("kind", ["gated", "private"])
def test_a_model_that_not_everybody_may_read_is_published_in_private(
    hub: RunningHub, tmp_path: Path, kind: str
) -> None:
    made = artifact(tmp_path, MLX.builds[0])
    release = replace(RELEASE, gated=kind == "gated", private=kind == "private")
    write_json(Path(made.folder) / "release.json", release.to_json())
    published(hub, made)
    assert HfApi(endpoint=hub.url, token=hub.token).model_info(MLX_REPO).private is True
