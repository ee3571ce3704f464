"""The reference is computed once for a release, and says what that took."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bot.building.reference import digest, reference
from bot.building.release_at_hand import AtHand
from bot.progress import Lines
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.formats.examples import release

RELEASE = release({}, 1)


def test_other_weights_are_another_reference() -> None:
    assert digest(RELEASE) == digest(replace(RELEASE, commit="1" * 40)), "the same files in another commit"
    assert digest(RELEASE) != digest(replace(RELEASE, content_digest="1" * 64))


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
def test_it_is_computed_once_and_reports_its_cost(sample: Path, tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    said: list[str] = []
    for _ in range(2):
        with (tmp_path / "said").open("w") as file:
            display = Lines(Console(file=file, width=200))
            folder = reference(
                RELEASE, AtHand(folder=sample), context_of(workspace=workspace, display=display, threads=2)
            )
        said.append((tmp_path / "said").read_text())
    assert (folder / "reference.json").exists()
    assert re.search(r"^Reference: 3284 positions, peak memory \d+\.\d MB, .* s$", said[0], re.MULTILINE)
    assert said[1] == ""
