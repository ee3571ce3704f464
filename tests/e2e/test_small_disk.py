"""A model is built on a disk that would not hold it: its weights come from the Hub as they are needed, and go again."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.checkpoints import SHAPES, make, parameters
from bot.hub import client
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from bot.records.artifacts import Report
from tests.e2e.world import World, make_world
from tests.worker.running import small_disk

MODEL = "microsoft/Phi-3.5-larger"
SHAPE = replace(
    SHAPES["phi-3.5-mini"], hidden=1024, layers=8, heads=16, key_value_heads=16, intermediate=4096, vocabulary=4096
)
WEIGHTS = 2 * parameters(SHAPE)  # bytes

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[RunningHub]:
    """A Hub that holds a model of a quarter of a gigabyte."""
    folder = make(SHAPE, sample, tmp_path_factory.mktemp("model") / "phi", shard=150_000_000)
    with serve(tmp_path_factory.mktemp("holding") / "hub") as running:
        files: dict[str, Path | bytes] = {p.name: p for p in sorted(folder.iterdir())}
        with Silent().task("release") as task:
            client.connect(running.url, running.token).commit(
                MODEL, files=files, parent=None, message="Release", task=task
            )
        yield running


def files_of(world: World, variant: str, *arguments: str) -> tuple[dict[str, str], str]:
    """Build a variant; return the digests of its files, and what was said."""
    done = world.phi_bot("build", MODEL, "--variants", variant, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    [artifact] = Report.from_json(json.loads(done.stdout)).artifacts
    return {f.path: f.sha256 for f in artifact.build.files}, done.stderr


@pytest.mark.parametrize("variant", ["gguf/q4_k_m", "onnx/cpu-int4", "openvino/int4", "mlx/4bit"])
def test_a_build_on_a_disk_smaller_than_its_source_gives_the_same_files(
    holding: RunningHub, tmp_path: Path, variant: str
) -> None:
    roomy, said = files_of(make_world(holding, tmp_path / "roomy"), variant)
    assert "stream" not in said
    world = make_world(holding, tmp_path / "small")
    with small_disk(world.folder / "work", 0.8 * WEIGHTS / 1e6):
        small, said = files_of(world, variant)
        assert "do not fit on the disk beside the files made of them, so they stream" in said
        assert "Stock path" not in said
    assert small == roomy


@pytest.mark.sweep
def test_files_that_a_disk_does_not_hold_together_are_published_in_turns(holding: RunningHub, tmp_path: Path) -> None:
    """Each takes half as much as the weights; a quarter of these is room for the source, which streams."""
    world = make_world(holding, tmp_path / "turns")
    with small_disk(world.folder / "work", 1.1 * WEIGHTS / 1e6):
        done = world.phi_bot("run", MODEL, "--variants", "gguf/q8_0,mlx/8bit", "--json")
    assert done.returncode == 0, done.stderr
    assert "does not hold all files" in done.stderr
    report = Report.from_json(json.loads(done.stdout))
    assert [p.repo_id for p in report.publications] == [f"demo/Phi-3.5-larger-{kind}" for kind in ("GGUF", "mlx-8bit")]
