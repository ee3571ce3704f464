"""A plan that is built on Hugging Face Jobs, whole: here on those of an embedded Hub, with the real client."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import config
from bot.hub import client
from bot.hub.local import serve
from bot.progress import Silent
from bot.records import Placement, Plan, Report
from bot.steps.elsewhere import submit
from bot.toolchains.install import cache_folder
from tests.e2e.world import MODEL, World, make_world

pytestmark = pytest.mark.toolchain

VARIANT = "gguf/q4_k_m"


class Said(Silent):
    """A display that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Remember."""
        self.lines.append(text)


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
        with (made.folder / "phi-bot.toml").open("a") as file:
            file.write(f"\n[hf_jobs]\nsetup = {json.dumps(image)}\n")
        yield made


def planned(world: World) -> Plan:
    """Return the plan for the release, as it would be placed."""
    found = Plan.from_json(world.json("plan", MODEL, "--variants", VARIANT))
    placement = Placement(runner="hf-jobs/cpu-basic", seconds=60, cost=0.01)
    return dataclasses.replace(found, jobs=tuple(dataclasses.replace(j, placement=placement) for j in found.jobs))


def test_a_release_goes_to_jobs_and_comes_back_published(world: World) -> None:
    found = config.load(world.folder / "phi-bot.toml", environ=world.environment)
    hub, said = client.connect(world.hub.url, world.hub.token), Said()
    todo = planned(world)
    report = submit(todo, config=found, hub=hub, display=said)
    assert report.failures == (), said.lines
    (publication,) = report.publications
    assert publication.repo_id == "demo/Phi-3.5-sample-instruct-GGUF"
    (proven,) = publication.builds
    assert proven.build.build_key == todo.jobs[0].variants[0].build_key
    assert proven.evidence.passed
    assert any(VARIANT in line and "|" in line for line in said.lines)  # its log was followed

    # Another bot finds nothing to do; the token was in no answer, no log and no file but that of the Hub itself.
    assert world.run(MODEL, "--variants", VARIANT) == Report()
    assert all(world.hub.token not in line for line in said.lines)
    kept = [p for p in world.hub.hub.folder.rglob("*") if p.is_file() and p != world.hub.token_file]
    assert all(world.hub.token.encode() not in p.read_bytes() for p in kept)
    assert [p.name for p in world.hub.hub.scratch.folder.iterdir()] == ["lock"]  # the job's folder went with it
