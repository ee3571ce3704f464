"""What the tests of the action share: a Hub with a release, the environment that the action installs, and a runner."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.hub import client
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from tests.action.environment import lend_environment
from tests.action.runner import Runner
from tests.warm import warm_cache

RELEASE = "microsoft/Phi-3.5-sample-instruct"


@pytest.fixture(scope="session")
def temp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNNER_TEMP of all uses of the action in this session."""
    return lend_environment(tmp_path_factory.mktemp("runner") / "temp folder", tmp_path_factory)


@pytest.fixture
def runner(temp: Path, tmp_path: Path) -> Runner:
    """A runner with an empty workspace, and toolchains where this machine has them."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return Runner(temp=temp, workspace=workspace, environment={"PHI_BOT_CACHE": str(warm_cache())})


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[RunningHub]:
    """An embedded Hub on which the sample checkpoint is a release of microsoft's."""
    with serve(tmp_path_factory.mktemp("action") / "hub") as running:
        files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
        hub = client.connect(running.url, running.token)
        with Silent().task("release") as task:
            hub.commit(RELEASE, files=files, parent=None, message="Release", task=task)
        yield running


@pytest.fixture(scope="session")
def work(temp: Path) -> Path:
    """A working folder of all uses, so that the sample's reference is computed once."""
    return temp / "work"


@pytest.fixture
def fine_tune(sample: Path, runner: Runner) -> Callable[[str], Path]:
    """A function that puts a checkpoint into the workspace, as the caller's checkout would."""

    def put(name: str) -> Path:
        return Path(shutil.copytree(sample, runner.workspace / name))

    return put


def on_hub(hub: RunningHub, folder: Path) -> dict[str, str]:
    """Return the environment of a job that talks to an embedded Hub with a token."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "hf-home"),
    }
