"""ONNX in little memory: the bytes of the builder's own way for every family and row, in a fraction of its memory."""

import filecmp
import json
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import bot
from benchmarks.checkpoints import SHAPES, make
from bot import catalogue
from bot.families import FAMILIES
from bot.progress import Silent
from bot.records import Json, Variant
from bot.tasks import BuildTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure
from tests.workers import checkpoints
from tests.workers.running import Built, build, copy_of, prepare, rows, run_build, run_python

pytestmark = pytest.mark.toolchain

ROWS = rows("onnx")
INT4, MIXED, FP16 = (catalogue.all_variants()[f"onnx/{n}"] for n in ("cpu-int4", "cpu-int4-mixed", "cuda-fp16"))
_ALWAYS = ("phi-3.5-mini",)  # two tables of rotations
COVERED = [
    pytest.param(name, marks=[] if name in _ALWAYS else pytest.mark.sweep)
    for name, family in FAMILIES.items()
    if not family.needs_code and name != "phi-3.5-moe"
]


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


@pytest.fixture(scope="module")
def large(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of Phi-3.5-mini at its true size: 310 million parameters, in two files."""
    folder = tmp_path_factory.mktemp("large") / "source"
    return make(SHAPES["phi-3.5-mini"], sample, folder, layers=1, shard=400 * 10**6)


def with_options(name: str, **extra: str) -> Variant:
    """INT4 with options of the builder's own that no row of the catalogue has."""
    return Variant(
        name=f"onnx/{name}",
        precision="int4",
        bits_per_weight=5.0,
        summary="A variant of our own",
        options=INT4.options | {"extra_options": extra},
    )


@pytest.mark.parametrize("family", COVERED)
def test_every_row_of_every_family_is_what_the_builder_writes(
    toolchain: Toolchain, sample_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    _assert_twins(toolchain, sample_of(family), ROWS, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda source: checkpoints.in_shards(checkpoints.with_newer_keys(source)),
        lambda source: checkpoints.in_types(
            source, lambda _: "F16"
        ),  # the config says bfloat16, and so they are loaded
        lambda source: checkpoints.in_types(source, lambda name: "F32" if "norm" in name else "BF16"),
    ],
    ids=["shards and newer keys", "half", "mixed types"],
)
def test_checkpoints_in_other_forms_are_what_the_builder_writes(
    toolchain: Toolchain, sample: Path, tmp_path: Path, change: Callable[[Path], Path]
) -> None:
    _assert_twins(toolchain, change(copy_of(sample, tmp_path / "source")), [INT4, FP16], tmp_path)


def test_options_beyond_the_catalogues_are_what_the_builder_writes(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    variants = [
        with_options("asymmetric", is_symmetric="false"),
        with_options("blocks", block_size="64"),
        with_options("k-quant", algo_config="k_quant", block_size="16"),
        with_options("upgraded", matmul_mixed_precision="last_matmul:int8"),
    ]
    _assert_twins(toolchain, sample, variants, tmp_path)


def test_a_source_that_streams_gives_the_same(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    """Its weights are too large to be there all the time, and nothing reads one that is not held."""
    whole = build(toolchain, large, [INT4, FP16], tmp_path / "whole", log=tmp_path / "log")
    streamed = build(toolchain, large, [INT4, FP16], tmp_path / "job", log=tmp_path / "log", streamed=True)
    assert streamed.names == [INT4.name, FP16.name]
    _assert_same(streamed, whole)


def test_it_takes_a_fraction_of_the_memory_that_the_builder_takes(
    toolchain: Toolchain, large: Path, tmp_path: Path
) -> None:
    stock = build(toolchain, large, [INT4], tmp_path / "stock", log=tmp_path / "log", stock=True)
    with _data_limit(1 << 30):
        lean = build(toolchain, large, [INT4], tmp_path / "lean", log=tmp_path / "log")
        short = build(toolchain, large, [INT4], tmp_path / "short", log=tmp_path / "log", stock=True)
    assert list(short.failures) == [INT4.name]
    _assert_same(lean, stock)
    (said,) = (e for e in lean.events if e["event"] == "built")
    assert said["peak_memory"] < 1.2e9


@pytest.mark.sweep
def test_every_row_of_a_real_width_is_what_the_builder_writes(
    toolchain: Toolchain, large: Path, tmp_path: Path
) -> None:
    for variant in ROWS:
        _assert_twins(toolchain, large, [variant], tmp_path / variant.short_name)


@pytest.mark.parametrize("writes", [12, *(pytest.param(n, marks=pytest.mark.sweep) for n in (0, 1, 40))])
def test_a_killed_build_goes_on_from_what_was_whole(
    toolchain: Toolchain, sample: Path, tmp_path: Path, writes: int
) -> None:
    variants = [INT4, FP16, MIXED]
    whole = build(toolchain, sample, variants, tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", variants)
    _run_with(KILLED_AFTER.format(writes=writes), toolchain, sample, variants, killed)
    assert "model.onnx.data" not in killed.files(INT4.name)
    for variant in variants:  # as the bot gives them again
        for file in killed.folders[variant.name].iterdir():
            file.unlink()

    run_build(toolchain, sample, variants, killed, log=tmp_path / "log")
    _assert_same(killed, whole)
    first = next(e for e in killed.events if e["event"] == "progress" and e["what"] == "writing")
    assert (first["done"] > first["total"] / 4) == (writes >= 12)  # a third of it is the embeddings


def test_variants_of_which_one_is_further_along_go_on_together(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    whole = build(toolchain, sample, [INT4, FP16], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [INT4, FP16])
    _run_with(KILLED_AFTER.format(writes=12), toolchain, sample, [FP16], killed)
    for file in killed.folders[FP16.name].iterdir():
        file.unlink()
    run_build(toolchain, sample, [INT4, FP16], killed, log=tmp_path / "log")
    _assert_same(killed, whole)


@pytest.mark.parametrize(
    ("change", "variant", "reason"),
    [
        ("lean.PINNED['onnxruntime'] = '1.0'", INT4, "onnxruntime is 1.31.1, and it was compared with 1.0"),
        (
            "graph.ARCHITECTURES = ('PhiForCausalLM', 'PhiOtherForCausalLM')",
            INT4,
            "the architecture is not PhiForCausalLM or PhiOtherForCausalLM",
        ),
        (
            "",
            with_options("embedding", op_types_to_quantize="MatMul/Gather"),
            "embedding has options that were not compared: op_types_to_quantize",
        ),
        (
            "lean._OPTIONS.add('op_types_to_quantize')",
            with_options("embedding", op_types_to_quantize="MatMul/Gather"),
            "it quantizes model.embed_tokens.weight in another way",
        ),
        ("", with_options("rtn", algo_config="rtn"), "it quantizes with rtn"),
    ],
    ids=["another version", "another model", "another option", "the embedding", "another method"],
)
def test_what_it_does_not_know_goes_the_builders_own_way(
    toolchain: Toolchain, sample: Path, tmp_path: Path, change: str, variant: Variant, reason: str
) -> None:
    stock = build(toolchain, sample, [variant], tmp_path / "stock", log=tmp_path / "log", stock=True)
    built = prepare(tmp_path / "job", [variant])
    events = _run_with(change, toolchain, sample, [variant], built)
    assert [e["message"] for e in events if e["event"] == "note"] == [f"Stock path: {reason}"]
    assert [e["variant"] for e in events if e["event"] == "built"] == [variant.name]
    _assert_same(built, stock)


def test_tensors_that_transformers_would_add_or_drop_go_the_builders_own_way(
    toolchain: Toolchain, sample: Path, tmp_path: Path
) -> None:
    def rename(weights: checkpoints.Weights) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [2], bytes(8))

    source = checkpoints.change_weights(copy_of(sample, tmp_path / "source"), rename)
    built = build(toolchain, source, [INT4], tmp_path / "job", log=tmp_path / "log")
    (note,) = (e["message"] for e in built.events if e["event"] == "note")
    assert note == "Stock path: its tensors are not those that transformers has for this architecture"
    assert built.names == [INT4.name]


FUZZED = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from bot.workers.onnx.quantizers import agrees, default, kernel_of, symmetric_blocks
random = torch.Generator().manual_seed(int(sys.argv[2]))
ours = 0
for bits in (4, 8):
    for block in (16, 32, 64, 128, 256):
        assert agrees(bits, block)
        for dtype in (torch.float32, torch.float16):
            for kind in range(12):
                rows, columns = 33, block * (kind % 5 + 1) + (block // 2 if kind == 11 else 0)
                values = torch.randn(rows, columns, generator=random) * 10.0 ** (kind % 6 - 3)
                if kind % 2:  # ties: values that lie half way between two levels
                    values = torch.randint(-16, 17, values.shape, generator=random) / 2
                if kind == 4:
                    values *= 1e-38  # denormal
                if kind == 6:
                    values *= 1e30
                values[3], values[5, :7] = 0.0, -0.0
                values[7, 0] = {8: float("nan"), 9: float("inf"), 10: -float("inf")}.get(kind, 0.0)
                values = values.bfloat16().to(dtype)
                want, got = kernel_of(bits, block, symmetric=True)(values), default(bits, block, symmetric=True)(values)
                for a, b in zip(want, got, strict=True):
                    assert a.tobytes() == b.tobytes() and a.shape == b.shape, (bits, block, dtype, kind)
                ours += columns % block == 0 and symmetric_blocks(values, bits, block) is not None
print(ours)
"""


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.sweep) for n in range(1, 6))])
def test_our_arithmetic_gives_the_kernels_bytes(toolchain: Toolchain, seed: int) -> None:
    """For ties, zeros of both signs, denormal and huge weights too; what is not finite goes to the kernel."""
    ours = int(run_python(toolchain, FUZZED, _ROOT, seed))
    assert ours > 120  # of 240


ROWS_APART = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from bot.workers.onnx.quantizers import default, k_quant
values = torch.randn(64, 192, generator=torch.Generator().manual_seed(0)).half()
for quantizer in (k_quant(4, 32), k_quant(8, 32), default(4, 32, symmetric=False), default(4, 32, symmetric=True)):
    whole = quantizer(values)
    parts = [quantizer(values[i : i + 6]) for i in range(0, 64, 6)]
    for at, array in enumerate(whole):
        assert np.concatenate([p[at] for p in parts]).tobytes() == array.tobytes()
"""


def test_rows_apart_give_the_bytes_of_all_rows_together(toolchain: Toolchain) -> None:
    run_python(toolchain, ROWS_APART, _ROOT)


_ROOT = Path(bot.__file__).parent.parent

KILLED_AFTER = """
import os
from bot.workers import growing
from bot.workers.onnx import data
growing._MARK_BYTES = 0  # so that each stretch is worth a mark
put, left = data._Open.put, [{writes}]
def putting(*args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return put(*args)
data._Open.put = putting
"""
_WORKER = """
import os, sys
del os.environ["PHI_BOT_HOLDS_STDIN"]  # it is ours
sys.path.insert(0, sys.argv.pop(1))
change = sys.argv.pop(1)
from bot.workers.harness import main
from bot.workers.onnx import build
from bot.workers.onnx import runtime
runtime.send_nothing()
from bot.workers.checkpoint import forbid_remote_code
forbid_remote_code()
from bot.workers.onnx import graph, lean
exec(change)
main({"build": build.build})
"""


def _run_with(change: str, toolchain: Toolchain, source: Path, variants: Sequence[Variant], built: Built) -> list[Json]:
    """Run a worker in which some code was run first, as ``run_build`` runs others. Returns its events."""
    folder = next(iter(built.folders.values())).parent
    targets = tuple(
        Target(variant=v, out=str(built.folders[v.name]), partial=str(folder / "partial" / v.short_name))
        for v in variants
    )
    task = BuildTask(source=str(source), model_name="Phi", targets=targets, scratch=str(folder / "scratch"), threads=1)
    (folder / "task.json").write_text(json.dumps(task.to_json()))
    done = subprocess.run(
        [toolchain.python, "-I", "-c", _WORKER, _ROOT, change, "build", folder / "task.json"],
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


def _assert_twins(toolchain: Toolchain, source: Path, variants: Sequence[Variant], folder: Path) -> None:
    """The fast path was taken, and left the bytes of the stock one."""
    folder.mkdir(exist_ok=True)
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
