"""What a card tells its readers to type is typed: its shell lines and its Python, in the format's environment."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import format_folders
from bot.records.artifacts import Report
from tests.e2e.world import World
from tests.markdown_reader import fences

pytestmark = pytest.mark.toolchain

_HERE = ("hf download", "mlx_lm.generate")  # the others install packages, or run programs that no toolchain holds


@pytest.mark.parametrize("format_name", format_folders.names())
def test_the_code_on_a_card_runs(
    published_of: Callable[[str], tuple[Report, World]],
    toolchain: Callable[[str], Path],
    tmp_path: Path,
    format_name: str,
) -> None:
    published, world = published_of(format_name)
    python = toolchain(format_name)
    repo_id = next(p.repo_id for p in published.publications if p.builds[0].build.variant.format == format_name)
    path = os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | world.environment | {"PATH": path, "HF_HOME": str(tmp_path / "hf")}

    def typed(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command[-1]}\n{done.stderr}"
        return done.stdout

    typed("hf", "download", repo_id, "README.md", "--local-dir", "card")
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8").split("\n---\n", 1)[1]
    for line in "".join(fences(card, "bash")).splitlines():
        if line.startswith(_HERE):
            typed("bash", "-c", line)
    programs = fences(card, "python")
    assert programs
    for program in programs:
        assert typed(str(python), "-c", program).strip()
