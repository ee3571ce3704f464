"""What rounding costs is found once for a release, and is that of its model and of the text."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bot.building.release_at_hand import AtHand
from bot.building.sensitivities import digest, sensitivities
from bot.progress import Lines
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.formats.examples import release

RELEASE = release({}, 1)


def test_other_weights_have_others() -> None:
    assert digest(RELEASE) == digest(replace(RELEASE, commit="1" * 40)), "the same files in another commit"
    assert digest(RELEASE) != digest(replace(RELEASE, content_digest="1" * 64))


def test_another_text_has_others(another_text: Callable[[], None]) -> None:
    before = digest(RELEASE)
    another_text()
    assert digest(RELEASE) != before


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
def test_they_are_found_once_and_report_their_cost(sample: Path, tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    said: list[str] = []
    for _ in range(2):
        with (tmp_path / "said").open("w") as file:
            context = context_of(workspace=workspace, display=Lines(Console(file=file, width=200)), threads=2)
            folder = sensitivities(RELEASE, AtHand(folder=sample), context)
        said.append((tmp_path / "said").read_text())
    assert (folder / "sensitivities.json").is_file()
    assert not list(folder.glob("states*")), "what layers are given is only kept meanwhile"
    assert re.search(r"^Sensitivities: \d+ tokens, peak memory \d+\.\d MB, .* s$", said[0], re.MULTILINE)
    assert said[1] == ""
