"""Fetching on a disk that holds a model once: what a former try left there is no reason to refuse the next one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.building.release_at_hand import fetch, missing_bytes
from bot.errors import DiskTooSmallError
from bot.hub import client
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.proving.job_disk import streams
from bot.records.artifacts import Release
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.hub.faulty import Fault, Proxy, proxy
from tests.source import models
from tests.steps.jobs import job
from tests.worker.running import small_disk

MB = 1_000_000
TENSORS = {"model.embed_tokens.weight": ("BF16", [32_000, 512]), "model.norm.weight": ("F32", [512])}  # 33 MB

FETCH = """
import json, sys
from pathlib import Path
from bot.building.release_at_hand import fetch
from bot.config import Config
from bot.context import Context
from bot.hub.client import connect
from bot.progress import Silent
from bot.records.artifacts import Release
from bot.workspace import Workspace
release = Release.from_json(json.loads(Path(sys.argv[2]).read_text()))
workspace = Workspace(root=Path(sys.argv[3]))
fetch(release, Context(config=Config(), workspace=workspace, hub=connect(sys.argv[1]), display=Silent()))
"""
SCRATCH = """
import sys, time
from pathlib import Path
from bot.workspace import Workspace
with Workspace(root=Path(sys.argv[1])).scratch() as folder:
    (folder / "half-made").write_bytes(bytes(30_000_000))
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def stalling(hub: RunningHub) -> Iterator[Proxy]:
    with proxy(hub.url) as between:
        yield between


@pytest.fixture
def release(hub: RunningHub) -> Release:
    config = json.dumps(models.CONFIG | {"hidden_size": 512}).encode()
    content = models.files(config__json=config, model__safetensors=models.safetensors(TENSORS))
    there = client.connect(hub.url, hub.token)
    with Silent().task("") as task:
        there.commit("me/Phi", files=content, parent=None, message="Release", task=task)
    return there.release("me/Phi")


@pytest.mark.process
@pytest.mark.parametrize("left", [0.4, 0.9])
def test_a_killed_download_goes_on_where_the_disk_holds_the_model_once(
    release: Release, stalling: Proxy, hub: RunningHub, tmp_path: Path, left: float
) -> None:
    weights = release.weight_bytes
    (tmp_path / "release.json").write_text(json.dumps(release.to_json()))
    stalling.faults.append(
        Fault(method="GET", path="/_lfs/download.*name=model.safetensors", stall=int(left * weights), times=1)
    )
    with small_disk(tmp_path / "work", 1.1 * weights / MB) as work:
        workspace = Workspace(root=work)
        arguments = [stalling.url, str(tmp_path / "release.json"), str(work)]
        process = subprocess.Popen([sys.executable, "-c", FETCH, *arguments])
        deadline = time.monotonic() + 60
        part = workspace.downloading(release) / ".incomplete" / "model.safetensors"
        while not (part.exists() and part.stat().st_size > (left - 0.35) * weights):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        had = part.stat().st_size
        assert workspace.free() < weights  # all of it would not fit beside what is there
        # Files beside the weights are downloaded and then copied: one that had not come counts for both.
        late = sum(f.size for f in release.files if not (part.parents[1] / f.path).exists()) - weights
        assert missing_bytes(release, workspace) <= sum(f.size for f in release.files) - had + late
        fetch(release, context_of(hub=client.connect(hub.url), workspace=workspace))
        assert (workspace.source(release) / "model.safetensors").stat().st_size == weights
        assert missing_bytes(release, workspace) == 0


@pytest.mark.process
def test_half_made_files_of_a_killed_process_count_as_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "work", 40) as work:
        process = subprocess.Popen([sys.executable, "-c", SCRATCH, str(work)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        workspace = Workspace(root=work)
        with pytest.raises(DiskTooSmallError):  # it is at work
            workspace.need_disk(30 * MB, "This")
        process.kill()
        process.wait()
        process.stdout.close()
        workspace.need_disk(30 * MB, "This")


@pytest.mark.process
def test_a_download_that_is_not_gone_on_with_makes_room_for_a_stream(tmp_path: Path) -> None:
    """The disk holds what is made of it and a stream, and not the download that was begun where there was more room."""
    weights = 100 * MB
    made = job(replace(release_of(weights), commit="c" * 40), "gguf/q4_k_m")
    made = replace(made, estimate=replace(made.estimate, output=20 * MB, disk=5 * MB))
    with small_disk(tmp_path / "work", 80) as work:
        workspace = Workspace(root=work)
        folder = workspace.downloading(made.release) / ".incomplete"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(50 * MB))
        assert streams(made, context_of(workspace=workspace))
        assert not workspace.downloading(made.release).exists()


def release_of(weights: int) -> Release:
    from tests.steps.jobs import release as example

    return example(weights // 2)


def test_more_than_a_file_is_not_counted(tmp_path: Path) -> None:
    """What was left is checked when it is gone on with; as room it counts up to the file's size."""
    wanted = release_of(10 * MB)
    workspace = Workspace(root=tmp_path)
    folder = workspace.downloading(wanted)
    folder.mkdir(parents=True)
    for size in (0, 3 * MB, 10 * MB, 12 * MB):
        with (folder / "model.safetensors").open("wb") as file:
            os.truncate(file.fileno(), size)
        assert missing_bytes(wanted, workspace) == max(0, 10 * MB - size)
