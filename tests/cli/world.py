"""The command line in this process, on an embedded Hub with models that are whole, damaged and gone."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot import catalogue
from bot.cli import _main
from bot.localhub import RunningHub
from bot.records.artifacts import Release, Report
from bot.steps.plan import plan_releases
from bot.workspace import Workspace, write_json
from tests.steps import proven

VARIANT = "gguf/q4_k_m"


class World:
    """A whole model whose artifact is in the working folder, one with damaged weights, and one that is gone."""

    def __init__(self, hub: RunningHub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.hub, self.folder, self._capsys = hub, folder, capsys
        self.workspace = Workspace(root=folder / "cache" / "work")
        self.damaged = proven.release(hub, "microsoft/Phi-1-damaged", model__safetensors=b"no header")
        self.whole = proven.release(hub, "microsoft/Phi-2-whole")
        self.gone = proven.release(hub, "microsoft/Phi-3-gone", tokenizer__json=b'{"gone": 1}')
        HfApi(endpoint=hub.url, token=hub.token).delete_repo(self.gone.repo_id)
        self.built = self.build(self.whole)

    def build(self, release: Release) -> Path:
        """Leave what building and verifying a variant of a release leaves; return its folder."""
        made = proven.artifact(self.folder / "made", release)
        place = self.workspace.artifact(made.build.build_key, release)
        place.parent.mkdir(parents=True, exist_ok=True)
        return Path(made.folder).rename(place)

    def plan(self, *releases: Release) -> str:
        """Write what ``phi-bot plan`` prints for releases."""
        todo = plan_releases(releases, catalogue.select([VARIANT]))
        write_json(self.folder / "plan.json", todo.to_json())
        return "plan.json"

    def phi_bot(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command line in this process; return its exit code, and what it printed."""
        self._capsys.readouterr()
        code = _main(list(arguments))
        return code, *self._capsys.readouterr()

    def report(self, code: int, *arguments: str) -> Report:
        """Run a step that ends with a code, and return what it printed for the next one; keep that in last.json."""
        ended, out, err = self.phi_bot(*arguments, "--json")
        assert ended == code, err
        (self.folder / "last.json").write_text(out)
        return Report.from_json(json.loads(out))
