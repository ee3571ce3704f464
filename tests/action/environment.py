"""The environment that the action installs: it takes 20 seconds, so it is made once for all processes that test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.action.runner import ROOT
from tests.shared import make_once


def lend_environment(temp: Path, factory: pytest.TempPathFactory) -> Path:
    """Have RUNNER_TEMP as it is after a first use of the action: the environment is in it, and nothing else."""

    def make(folder: Path) -> None:
        environment = os.environ | {"RUNNER_TEMP": str(folder), "GITHUB_OUTPUT": str(folder / "output")}
        subprocess.run([sys.executable, "-I", ROOT / "bot" / "action" / "install.py"], env=environment, check=True)

    (made,) = make_once(factory, "environment of the action", make).glob("phi-bot-*")
    temp.mkdir()
    (temp / made.name).symlink_to(made)
    return temp
