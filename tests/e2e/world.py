"""A world to run the command line in: an embedded Hub with a release on it, a configuration, a working folder."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.localhub import RunningHub
from bot.records.artifacts import Report
from tests.warm import warm_cache

MODEL = "microsoft/Phi-3.5-sample-instruct"


@dataclass(frozen=True, kw_only=True)
class World:
    """A Hub, and a folder with a phi-bot.toml that publishes as ``demo``."""

    hub: RunningHub
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a person exports to use this Hub."""
        return {
            "HF_ENDPOINT": self.hub.url,
            "HF_TOKEN": self.hub.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.folder / "hf-home"),
            "PHI_BOT_CACHE": str(warm_cache()),
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start phi-bot here, as a person would at a shell."""
        return subprocess.Popen(
            [sys.executable, "-m", "bot.cli", *arguments],
            cwd=self.folder,
            env=os.environ | self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def phi_bot(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run phi-bot here to its end."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str) -> Any:
        """Run phi-bot with --json; it must succeed."""
        done = self.phi_bot(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, *arguments: str) -> Report:
        """Run ``phi-bot run``; it must succeed."""
        return Report.from_json(self.json("run", *arguments))


def make_world(hub: RunningHub, folder: Path) -> World:
    """Write the configuration of a world."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "phi-bot.toml").write_text('[build]\nwork = "work"\n\n[publish]\nnamespace = "demo"\n')
    return World(hub=hub, folder=folder)
