"""Where tokens are not: in what commands print and write, in the arguments and the environment of what they start."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.errors import DamagedWeightsError, GithubError, RecordError, TokenError, UnknownModelError
from bot.localhub import RunningHub
from bot.toolchains.kept import cache_folder
from tests.source import models
from tests.steps import proven

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes as Linux shows them"),
]

CANARIES = {
    "GITHUB_TOKEN": "ghp_canaryofgithub0000000000000000000000",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "canary-of-an-identity",
    "ACTIONS_RUNTIME_TOKEN": "canary-of-the-cache",
    "AWS_SECRET_ACCESS_KEY": "canary-of-a-cloud",
}


class Job:
    """A job of a workflow: a folder with all that commands write, and an environment full of tokens."""

    def __init__(self, hub: RunningHub, folder: Path) -> None:
        folder.mkdir()
        (folder / "phi-bot.toml").write_text(
            '[build]\nwork = "work"\n[watch]\nauthors = ["microsoft"]\n[publish]\nnamespace = "me"\n'
        )
        self.folder = folder
        self.tokens = {hub.token, *CANARIES.values()}
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "PHI_BOT_CACHE": str(cache_folder().parent),
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_API_URL": "https://127.0.0.1:9",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "GITHUB_OUTPUT": str(folder / "output"),
            **CANARIES,
        }

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        """Run phi-bot; it must end with ``code`` and have printed no token. Returns what it printed."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bot.cli", *words],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with self.watched(process.pid):
            said, _ = process.communicate(timeout=300)
        assert process.returncode == code, said
        assert self.found_in(said.encode()) == set()
        return said

    @contextmanager
    def watched(self, pid: int) -> Iterator[None]:
        """Look at all that a process starts, again and again: at its arguments, and its environment."""
        self.seen: dict[int, tuple[bytes, bytes]] = {}
        over = threading.Event()

        def look() -> None:
            while not over.is_set():
                for child in descendants(pid):
                    with_arguments = read(child, "cmdline")
                    if with_arguments:
                        self.seen[child] = (with_arguments, read(child, "environ"))
                time.sleep(0.01)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def found_in(self, content: bytes) -> set[str]:
        return {token for token in self.tokens if token.encode() in content}

    def written(self) -> dict[Path, set[str]]:
        """The files that hold a token."""
        files = [p for p in self.folder.rglob("*") if p.is_file()]
        assert files
        return {p: found for p in files if (found := self.found_in(p.read_bytes()))}


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and those that they did. The process itself is not one of them."""
    parents = {}
    for entry in (p.name for p in Path("/proc").iterdir()):
        if entry.isdigit() and (stat := read(int(entry), "stat")):
            parents[int(entry)] = int(stat.rpartition(b")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.fixture
def job(hub: RunningHub, tmp_path: Path) -> Job:
    return Job(hub, tmp_path / "job")


def test_no_token_is_in_the_output_of_a_pipeline(job: Job, hub: RunningHub, tmp_path: Path) -> None:
    release = proven.release(hub)
    artifact = proven.artifact(tmp_path / "artifacts", release)
    job.run("watch", "--json")
    job.run("plan", "--json", "--matrix", "--begin")
    (job.folder / "staged.json").write_text(job.run("stage", artifact.folder, "--json"))
    job.run("promote", "--dry-run")
    job.run("status", "--out", "site")
    assert job.written() == {}


def test_no_token_is_in_the_output_of_failures(job: Job, hub: RunningHub, tmp_path: Path) -> None:
    models.write(job.folder / "broken", models.files(model__safetensors=b"\xff" * 100))
    job.run("run", "./broken", "--json", "--no-publish", code=DamagedWeightsError.exit_code)
    job.run("run", "microsoft/none", "--stage", "--json", code=UnknownModelError.exit_code)
    job.run("promote", "--reports", "broken", code=RecordError.exit_code)
    job.run("conclude", "--pull", "o/r#1", code=GithubError.exit_code)
    said = job.run("promote", code=TokenError.exit_code, HF_TOKEN="hf_wrongcanary0000")
    assert "hf_wrongcanary0000" not in said
    assert job.written() == {}


@pytest.mark.toolchain
def test_a_worker_that_looks_for_tokens_finds_none(job: Job, hub: RunningHub, tmp_path: Path) -> None:
    """Promoting draws pictures in a toolchain: what that process was given is what Linux says of it."""
    release = proven.release(hub)
    job.run("stage", proven.artifact(tmp_path / "artifacts", release).folder)
    job.run("stage", proven.artifact(tmp_path / "artifacts", release, "gguf/q8_0").folder)
    job.run("promote", "--json")
    workers = [seen for seen in job.seen.values() if b"bot.worker" in seen[0]]
    assert workers, "no worker was seen"
    for arguments, environment in workers:
        assert job.found_in(arguments) == set()
        assert job.found_in(environment) == set()
        assert b"PATH=" in environment, "its environment was not seen"
    assert job.written() == {}
