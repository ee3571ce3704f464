"""MLX, chunk by chunk: the bytes of mlx-lm's own way for every family and row, in a fraction of its memory."""

import filecmp
import json
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bot
from benchmarks.checkpoints import SHAPES, make
from bot import catalogue
from bot.families import FAMILIES
from bot.progress import Silent
from bot.records import Json, Variant
from bot.source import read_header
from bot.tasks import BuildTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure
from tests.workers.running import Built, build, copy_of, prepare, rows, run_build
from tests.workers.test_tensors import write

pytestmark = pytest.mark.toolchain

ROWS = rows("mlx")
FOUR_BITS, BF16, FP32 = (catalogue.all_variants()[f"mlx/{n}"] for n in ("4bit", "bf16", "fp32"))
_ALWAYS = ("phi-3.5-mini", "phi-3.5-moe")
CONVERTED = [
    pytest.param(name, marks=[] if name in _ALWAYS else pytest.mark.sweep)
    for name, family in FAMILIES.items()
    if not family.needs_code
]


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("mlx", Silent())


@pytest.fixture(scope="module")
def large(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of Phi-3.5-mini at its true size: 310 million parameters, in two files."""
    folder = tmp_path_factory.mktemp("large") / "source"
    return make(SHAPES["phi-3.5-mini"], sample, folder, layers=1, shard=400 * 10**6)


@pytest.mark.parametrize("family", CONVERTED)
def test_every_row_of_every_family_is_what_mlx_lm_writes(
    toolchain: Toolchain, sample_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    _assert_twins(toolchain, sample_of(family), ROWS, tmp_path)


def test_shards_and_newer_keys_are_what_mlx_lm_writes(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    _assert_twins(toolchain, _in_shards(_with_newer_keys(copy_of(sample, tmp_path / "source"))), [FOUR_BITS], tmp_path)


@pytest.mark.parametrize("family", ["phi-3.5-mini", "phi-3.5-moe"])
def test_a_source_that_streams_gives_the_same(
    toolchain: Toolchain, sample_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    whole = build(toolchain, sample_of(family), ROWS, tmp_path / "whole", log=tmp_path / "log")
    streamed = build(toolchain, sample_of(family), ROWS, tmp_path / "job", log=tmp_path / "log", streamed=True)
    assert streamed.names == [v.name for v in ROWS]
    _assert_same(streamed, whole)


def test_weights_of_a_real_size_stream_through(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    whole = build(toolchain, large, [FOUR_BITS], tmp_path / "whole", log=tmp_path / "log")
    streamed = build(toolchain, large, [FOUR_BITS], tmp_path / "job", log=tmp_path / "log", streamed=True)
    _assert_same(streamed, whole)


def test_it_takes_a_fraction_of_the_memory_that_mlx_lm_takes(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    with _data_limit(400 << 20):
        built = build(toolchain, large, [BF16], tmp_path / "job", log=tmp_path / "log")
        stock = build(toolchain, large, [BF16], tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert list(stock.failures) == [BF16.name]  # it reads into memory that it was not given
    assert built.folders[BF16.name].joinpath("model.safetensors").stat().st_size > 600e6
    (said,) = (e for e in built.events if e["event"] == "built")
    assert said["peak_memory"] < 300 << 20


@pytest.mark.parametrize("writes", [20, *(pytest.param(n, marks=pytest.mark.sweep) for n in (0, 1, 45, 63))])
def test_a_killed_build_goes_on_from_what_was_whole(
    toolchain: Toolchain, sample: Path, tmp_path: Path, writes: int
) -> None:
    whole = build(toolchain, sample, [FOUR_BITS], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [FOUR_BITS])
    assert _run_with(KILLED_AFTER.format(writes=writes), toolchain, sample, [FOUR_BITS], killed) == []
    assert killed.files(FOUR_BITS.name) == {}

    run_build(toolchain, sample, [FOUR_BITS], killed, log=tmp_path / "log")
    _assert_same(killed, whole)
    first = next(e for e in killed.events if e["event"] == "progress")
    if writes >= 20:  # the header, and the embeddings' three
        assert first["done"] > first["total"] * writes / 63 / 3


def test_variants_of_which_one_is_further_along_go_on_together(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    whole = build(toolchain, sample, [FOUR_BITS, FP32], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [FOUR_BITS, FP32])
    _run_with(KILLED_AFTER.format(writes=15), toolchain, sample, [FP32], killed)
    run_build(toolchain, sample, [FOUR_BITS, FP32], killed, log=tmp_path / "log")
    _assert_same(killed, whole)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("lean.PINNED['mlx-lm'] = '0.1'", "mlx-lm is 0.32.2, and it was compared with 0.1"),
        ("lean._MODELS = ('llama',)", "it does not know models of type phi3"),
        ("layout._header = lambda entries: b''", "MLX writes the headers of its files in another form"),
    ],
    ids=["another version", "another model", "another form"],
)
def test_what_it_does_not_know_goes_mlx_lms_own_way(
    toolchain: Toolchain, sample: Path, tmp_path: Path, change: str, reason: str
) -> None:
    stock = build(toolchain, sample, [FOUR_BITS], tmp_path / "stock", log=tmp_path / "log", stock=True)
    built = prepare(tmp_path / "job", [FOUR_BITS])
    events = _run_with(change, toolchain, sample, [FOUR_BITS], built)
    assert [e["message"] for e in events if e["event"] == "note"] == [f"Stock path: {reason}"]
    assert [e["variant"] for e in events if e["event"] == "built"] == [FOUR_BITS.name]
    _assert_same(built, stock)


KILLED_AFTER = """
import os
from bot.workers import placed
placed._MARK_BYTES = 0  # so that each parameter is worth a mark
write, left = placed.Placed.write, [{writes}]
def writing(*args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return write(*args)
placed.Placed.write = writing
"""
_WORKER = """
import os, sys
del os.environ["PHI_BOT_HOLDS_STDIN"]  # it is ours
sys.path.insert(0, sys.argv.pop(1))
change = sys.argv.pop(1)
from bot.workers.harness import main
from bot.workers.mlx import build, layout, lean
exec(change)
main({"build": build.build})
"""


def _run_with(change: str, toolchain: Toolchain, source: Path, variants: list[Variant], built: Built) -> list[Json]:
    """Run a worker in which some code was run first, as ``run_build`` runs others. Returns its events."""
    folder = next(iter(built.folders.values())).parent
    targets = tuple(
        Target(variant=v, out=str(built.folders[v.name]), partial=str(folder / "partial" / v.short_name))
        for v in variants
    )
    task = BuildTask(source=str(source), model_name="Phi", targets=targets, scratch=str(folder / "scratch"), threads=2)
    (folder / "task.json").write_text(json.dumps(task.to_json()))
    root = Path(bot.__file__).parent.parent
    done = subprocess.run(
        [toolchain.python, "-I", "-c", _WORKER, root, change, "build", folder / "task.json"],
        capture_output=True,
        text=True,
        env=child_environment(str(folder)),
    )
    assert done.returncode in (0, -9), done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [e for e in events if e["event"] not in ("progress", "result")]


@contextmanager
def _data_limit(size: int) -> Iterator[None]:
    """Let the processes that the block starts have so much memory of their own at most, in bytes."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _assert_twins(toolchain: Toolchain, source: Path, variants: list[Variant], folder: Path) -> None:
    """The fast path was taken, and left the bytes of the stock one."""
    fast = build(toolchain, source, variants, folder / "fast", log=folder / "log")
    stock = build(toolchain, source, variants, folder / "stock", log=folder / "log", stock=True)
    assert [e for e in fast.events if e["event"] == "note"] == []
    assert [e["message"] for e in stock.events if e["event"] == "note"] == ["Stock path: as asked for"]
    assert fast.names == stock.names == [v.name for v in variants]
    _assert_same(fast, stock)


def _assert_same(one: Built, other: Built) -> None:
    """Every file of every variant has the same bytes."""
    assert set(one.folders) == set(other.folders)
    for name in one.folders:
        ours, theirs = one.folders[name], other.folders[name]
        found = sorted(p.name for p in ours.iterdir())
        assert found == sorted(p.name for p in theirs.iterdir())
        assert filecmp.cmpfiles(ours, theirs, found, shallow=False) == (found, [], [])


def _with_newer_keys(source: Path) -> Path:
    """Write the settings of the rotations as transformers 5 does."""
    config = json.loads((source / "config.json").read_text())
    settings: dict[str, Json] = config.pop("rope_scaling")
    config["rope_parameters"] = settings | {"rope_type": settings["type"], "rope_theta": config.pop("rope_theta")}
    (source / "config.json").write_text(json.dumps(config))
    return source


def _in_shards(source: Path) -> Path:
    """Divide the weights among three files."""
    whole = source / "model.safetensors"
    raw, header = whole.read_bytes(), 8 + int.from_bytes(whole.read_bytes()[:8], "little")
    tensors = {
        name: (t.dtype, list(t.shape), raw[header + t.begin : header + t.end]) for name, t in read_header(whole).items()
    }
    whole.unlink()
    places: dict[str, str] = {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        part = dict(list(tensors.items())[number::3])
        write(source / file, part)
        places |= dict.fromkeys(part, file)
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return source
