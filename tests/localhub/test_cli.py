"""The Hub's own command line, unchanged, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.localhub import RunningHub

pytestmark = pytest.mark.process

Hf = Callable[..., str]


@pytest.fixture
def hf(hub: RunningHub, tmp_path: Path) -> Hf:
    """Run ``hf`` against the embedded Hub and return what it prints."""
    program = Path(sys.executable).parent / "hf"
    mine = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub.token}
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | mine | {"HF_HUB_DISABLE_UPDATE_CHECK": "1"}

    def run(*command: str | Path) -> str:
        done = subprocess.run([program, *command], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_folder_goes_up_and_comes_down(hf: Hf, api: HfApi, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    (source / "README.md").write_text("---\nlicense: mit\n---\n# Hi\n")
    (source / "w.gguf").write_bytes(os.urandom(200_000))
    (source / "sub" / "t.txt").write_text("text")
    hf("upload", "org/m", source, ".", "--commit-message", "By hand")
    assert [c.title for c in api.list_repo_commits("org/m")] == ["By hand", "initial commit"]
    hf("download", "org/m", "--local-dir", target)
    for file in ("README.md", "w.gguf", "sub/t.txt"):
        assert (target / file).read_bytes() == (source / file).read_bytes()
    hf("upload", "org/m", source / "sub" / "t.txt", "other.txt", "--create-pr")
    assert api.list_repo_files("org/m", revision="refs/pr/1")[-2:] == ["sub/t.txt", "w.gguf"]


def test_repos_on_the_command_line(hf: Hf, api: HfApi) -> None:
    hf("repos", "create", "org/m")
    hf("repos", "tag", "create", "org/m", "v1")
    assert [t.name for t in api.list_repo_refs("org/m").tags] == ["v1"]
    assert json.loads(hf("models", "list", "--author", "org", "--format", "json"))[0]["id"] == "org/m"
    hf("repos", "delete", "org/m", "--yes")
    assert not api.repo_exists("org/m")
