"""phi-bot promote: what a job of the pipeline sees of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.config import Config
from bot.config.places import PublishTable
from bot.errors import IncompleteError
from bot.hub import client
from bot.localhub import RunningHub
from bot.records.artifacts import Report
from bot.steps.stage import stage
from tests.contexts import context_of
from tests.github_server import serve
from tests.steps import proven

pytestmark = pytest.mark.process

CONFIG = """
[build]
variants = ["gguf/q4_k_m"]
[publish]
namespace = "me"
[announce]
repository = "o/r"
"""


def promote(hub: RunningHub, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "phi-bot.toml").write_text(CONFIG)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GITHUB_"))}
    hub_environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(folder / "hf")}
    return subprocess.run(
        [sys.executable, "-m", "bot.cli", "promote", "--json", "--work", str(folder / "work"), *arguments],
        cwd=folder,
        env=clean | hub_environment | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def staged(hub: RunningHub, tmp_path: Path) -> str:
    """A release of which one variant waits to be promoted."""
    release = proven.release(hub)
    artifact = proven.artifact(tmp_path / "artifacts", release)
    there = client.connect(hub.url, hub.token)
    report = stage([artifact], context_of(Config(publish=PublishTable(namespace="me")), hub=there))
    assert report.failures == ()
    return release.label


def test_the_issue_of_the_release_says_that_it_is_published(hub: RunningHub, staged: str, tmp_path: Path) -> None:
    with serve() as github:
        done = promote(hub, tmp_path, **github.environ)
        assert done.returncode == 0, done.stderr
        (issue,) = github.issues
    assert issue["title"].startswith("Phi-9-mini (")
    assert "me/Phi-9-mini-GGUF" in issue["body"]
    assert issue["state"] == "closed"


def test_a_report_that_is_none_holds_up_nothing(hub: RunningHub, staged: str, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "report.json").write_text("no report")
    done = promote(hub, tmp_path, "--reports", str(tmp_path / "reports"))
    assert done.returncode == IncompleteError.exit_code
    report = Report.from_json(json.loads(done.stdout))
    assert [p.repo_id for p in report.publications] == ["me/Phi-9-mini-GGUF"]
    assert ["report.json is not JSON" in f.message for f in report.failures] == [True]
    assert "Not announced on GitHub: no token for o/r" in done.stderr
