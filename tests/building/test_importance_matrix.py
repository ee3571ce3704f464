"""The importance matrix is measured once for a release, and what is built by it says so."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bot.building.importance_matrix import RECORD, digest, file_in, importance, read
from bot.building.release_at_hand import AtHand
from bot.formats.recipes import text_digest
from bot.progress import Lines, Silent
from bot.toolchains.install import ensure
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.formats.examples import release

RELEASE = release({}, 1)


def test_other_weights_are_another_matrix() -> None:
    assert digest(RELEASE, "gguf") == digest(replace(RELEASE, commit="1" * 40), "gguf"), (
        "the same files in another commit"
    )
    assert digest(RELEASE, "gguf") != digest(replace(RELEASE, content_digest="1" * 64), "gguf")


def test_another_text_is_another_matrix(another_text: Callable[[], None]) -> None:
    before = digest(RELEASE, "gguf")
    another_text()
    assert digest(RELEASE, "gguf") != before


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
def test_it_is_measured_once_and_reports_its_cost(sample: Path, tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path / "work")
    said: list[str] = []
    for _ in range(2):
        with (tmp_path / "said").open("w") as file:
            display = Lines(Console(file=file, width=200))
            folder = importance(
                RELEASE,
                AtHand(folder=sample),
                ensure("gguf", Silent()),
                context_of(workspace=workspace, display=display, threads=2),
            )
        said.append((tmp_path / "said").read_text())
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == sorted(
        [file_in(folder, "gguf").name, RECORD]
    )
    known = read(folder)
    assert (known.text, known.text_sha256, known.tokens) == ("training.txt", text_digest(), 512 * known.chunks)
    assert re.search(r"^Importance matrix: \d+ tokens, peak memory \d+\.\d MB, .* s$", said[0], re.MULTILINE)
    assert said[1] == ""
    assert not list((tmp_path / "work" / "scratch").glob("*")), "the model that was run is gone"
