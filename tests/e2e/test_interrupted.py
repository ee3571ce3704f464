"""Stopped anywhere, a run leaves nothing half-made, and the next one completes."""

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
from huggingface_hub import HfApi

from bot.errors import Interrupted
from bot.localhub import check
from tests.e2e.world import MODEL, World

pytestmark = pytest.mark.toolchain

STEPS = (
    "Looking for releases",
    "Downloading",
    "Building",
    "Computing the reference",
    "Verifying",
    "Publishing",
)
IN_ITS_MIDST = 0.3  # seconds: toolchains are warm
# As a step begins, and in its midst. Only the last one publishes: the beginnings of the others are swept.
MOMENTS = [
    pytest.param(step, after, marks=[] if after or step == STEPS[-1] else pytest.mark.sweep)
    for step in STEPS
    for after in (0.0, IN_ITS_MIDST)
]


def stop_at(world: World, line: str, number: signal.Signals, *, after: float) -> subprocess.CompletedProcess[str]:
    """Start the main job and send it a signal some seconds after it says that it is at a step."""
    process = (
        world.start("run", MODEL, "--variants", "gguf/q8_0")
        if line != STEPS[0]
        else world.start("run", "-v", "gguf/q8_0")
    )
    assert process.stderr is not None
    said = []
    for text in process.stderr:
        said.append(text)
        if line in text:
            time.sleep(after)
            process.send_signal(number)
            break
    else:
        pytest.fail(f"it never said {line!r}: {''.join(said)}")
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess((), process.returncode, out, "".join(said) + err)


def workers_of(world: World) -> list[str]:
    """Return the command lines of workers that use the world's working folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "launch.py" in line and "defunct" not in line]


def assert_complete(world: World, namespace: str) -> None:
    done = world.phi_bot("run", "-v", "gguf/q8_0")
    assert done.returncode == 0, done.stdout + done.stderr
    api = HfApi(endpoint=world.hub.url, token=world.hub.token)
    repo = f"{namespace}/Phi-3.5-sample-instruct-GGUF"
    assert {"README.md", "phi-bot.json", "Phi-3.5-sample-instruct-Q8_0.gguf"} <= set(api.list_repo_files(repo))
    titles = [c.title for c in api.list_repo_commits(repo)]
    assert sum(t.startswith("Add gguf/q8_0") for t in titles) == 1
    assert list((world.folder / "work" / "scratch").glob("*/*")) == []


@pytest.mark.parametrize(("step", "after"), MOMENTS)
def test_killed_at_a_step_the_next_run_completes(step: str, after: float, new_world: Callable[[str], World]) -> None:
    namespace = f"killed-{STEPS.index(step)}-{int(after * 10)}"
    world = new_world(namespace)
    if step == "Computing the reference":
        shutil.rmtree(world.folder / "work")
    stop_at(world, step, signal.SIGKILL, after=after)
    assert_complete(world, namespace)
    assert check(world.hub.hub.folder) == []


@pytest.mark.usefixtures("cold_toolchains")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_so_and_leaves_no_worker_behind(
    number: signal.Signals, new_world: Callable[[str], World]
) -> None:
    world = new_world(f"interrupted-{int(number)}")
    before = set(workers_of(world))
    done = stop_at(world, "Building", number, after=1.5)
    assert done.returncode == Interrupted.exit_code
    assert "phi-bot: interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    wait = threading.Event()
    for _ in range(20):
        if set(workers_of(world)) <= before:
            break
        wait.wait(0.25)
    assert set(workers_of(world)) <= before
    assert list((world.folder / "work" / "scratch").glob("*/*")) == []
    assert_complete(world, f"interrupted-{int(number)}")
