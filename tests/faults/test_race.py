"""Two bots on two machines that begin at the same moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.bench import REPOS, VARIANTS, Bench
from tests.faults.judge import Judge

pytestmark = pytest.mark.toolchain

ROUNDS = [*range(4), *(pytest.param(n, marks=pytest.mark.sweep) for n in range(4, 10))]


def start(bench: Bench, namespace: str, work: Path) -> subprocess.Popen[str]:
    """Start a whole run on a machine that has the artifacts."""
    for name in ("artifacts", "pictures", "references"):
        for file in (bench.work / name).rglob("*"):
            if file.is_file():
                place = work / name / file.relative_to(bench.work / name)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.hardlink_to(file)
    settings = work / "phi-bot.toml"
    settings.write_text(f'[publish]\nnamespace = "{namespace}"\n')
    variants = [text for name in VARIANTS for text in ("--variants", name)]
    environment = {"HF_ENDPOINT": bench.hub.url, "HF_TOKEN": bench.hub.token, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "bot.cli", "run", *variants, "--config", str(settings), "--work", str(work)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("number", ROUNDS)
def test_of_two_that_begin_together_both_end_well_and_each_build_is_there_once(
    bench: Bench, tmp_path: Path, number: int
) -> None:
    namespace = f"race-{number}"
    bots = [start(bench, namespace, tmp_path / name) for name in ("one", "other")]
    said = [bot.communicate(timeout=300)[0] for bot in bots]
    assert [bot.returncode for bot in bots] == [0, 0], "\n".join(said)
    verdict = Judge(bench.hub).look(namespace, REPOS)
    assert (verdict.half, verdict.duplicated) == ([], [])
