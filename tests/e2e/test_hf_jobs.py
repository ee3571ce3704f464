"""A bot that runs on Hugging Face Jobs and builds there: here on those of an embedded Hub, with the real client."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.hub import client
from bot.localhub import serve
from bot.progress import Silent
from bot.records.artifacts import Report
from bot.toolchains.kept import cache_folder
from tests.e2e.world import MODEL, World, make_world

pytestmark = pytest.mark.toolchain

VARIANT = "gguf/q4_k_m"


@pytest.fixture
def image(tmp_path: Path) -> str:
    """What the container image would have: phi-bot, and the toolchains, so that a test need not install them."""
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "toolchains").symlink_to(cache_folder())
    return f'export PATH="{Path(sys.executable).parent}:$PATH" PHI_BOT_CACHE="{tmp_path}/image"'


@pytest.fixture
def world(tmp_path: Path, sample: Path, image: str, unsynced: None) -> Iterator[World]:
    """A Hub that runs jobs, with a release on it, and a publisher's folder."""
    with serve(tmp_path / "hub", jobs=True) as running:
        hub = client.connect(running.url, running.token)
        files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
        with Silent().task("release") as task:
            hub.commit(MODEL, files=files, parent=None, message="Release", task=task)
        made = make_world(running, tmp_path / "world")
        path = made.folder / "phi-bot.toml"
        text = path.read_text().replace("[build]", f'[build]\nvariants = ["{VARIANT}"]')
        path.write_text(f"{text}\n[hf_jobs]\nsetup = {json.dumps(image)}\n")
        yield made


def test_a_bot_on_the_hub_sends_its_jobs_elsewhere_and_they_are_published(world: World) -> None:
    (made,) = world.json("schedule", "install")
    api = HfApi(endpoint=world.hub.url, token=world.hub.token)
    cycle = api.trigger_scheduled_job(scheduled_job_id=made["id"], namespace="demo")
    log = list(api.fetch_job_logs(job_id=cycle.id, namespace="demo", follow=True))
    assert api.inspect_job(job_id=cycle.id, namespace="demo").status.stage == "COMPLETED", log
    (sent,) = [j for j in api.list_jobs(namespace="demo") if j.id != cycle.id]
    assert sent.status.stage == "COMPLETED"
    assert any(sent.url in line for line in log)
    assert any(" | " in line and VARIANT in line for line in log)  # the job's own log was followed
    found = client.connect(world.hub.url, world.hub.token).record("demo/Phi-3.5-sample-instruct-GGUF")
    assert found is not None
    (proven,) = found[0].builds
    assert (proven.build.variant.name, proven.evidence.passed) == (VARIANT, True)

    # The laptop has nothing left to do, and starts nothing.
    assert world.run("--on", "hf-jobs") == Report()
    assert len(list(api.list_jobs(namespace="demo"))) == 2

    # The token was in no answer, no log and no file but that of the Hub itself; the jobs' folders went with them.
    assert world.hub.token not in repr((cycle, sent, log))
    kept = [p for p in world.hub.hub.folder.rglob("*") if p.is_file() and p != world.hub.token_file]
    assert all(world.hub.token.encode() not in p.read_bytes() for p in kept)
    assert [p.name for p in world.hub.hub.scratch.folder.iterdir()] == ["lock"]
