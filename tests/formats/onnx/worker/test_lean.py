"""ONNX in little memory: the bytes of the builder's own way for every family and row, in a fraction of its memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker import checkpoints
from tests.worker.limits import data_limit, wide
from tests.worker.running import build, copy_of, prepare, rows, run_build, run_python
from tests.worker.stock import assert_as_stock, assert_same
from tests.worker.twins import ROOT, assert_goes_stock, assert_streams, assert_twins, empty, families, killing, run_with

pytestmark = pytest.mark.toolchain

# The builder has quantized weights for TensorRT in other nodes: it makes those files itself.
ROWS = [v for v in rows("onnx") if v.target != "trtrtx"]
INT4, MIXED, FP16, FP32 = (
    catalogue.all_variants()[f"onnx/{n}"] for n in ("cpu-int4", "cpu-int4-mixed", "cuda-fp16", "cpu-fp32")
)
_ALWAYS = ("phi-3.5-mini",)  # two tables of rotations
COVERED = families(always=_ALWAYS, covered=lambda name: not name.endswith("moe"))


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


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
def test_every_row_of_every_family_equals_the_builders_files(
    toolchain: Toolchain, drawn_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    assert_twins(toolchain, drawn_of(family), ROWS, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda source: checkpoints.in_shards(checkpoints.with_newer_keys(source)), id="shards and newer keys"
        ),
        pytest.param(  # the config says bfloat16, and so they are loaded
            lambda source: checkpoints.in_types(source, lambda _: "F16"), id="half", marks=pytest.mark.sweep
        ),
        pytest.param(
            lambda source: checkpoints.in_types(source, lambda name: "F32" if "norm" in name else "BF16"),
            id="mixed types",
            marks=pytest.mark.sweep,
        ),
    ],
)
def test_checkpoints_in_other_forms_equal_the_builders_files(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, change: Callable[[Path], Path]
) -> None:
    assert_twins(toolchain, change(copy_of(drawn, tmp_path / "source")), [INT4, FP16], tmp_path)


def test_options_beyond_the_catalogues_equal_the_builders_files(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    variants = [
        with_options("asymmetric", is_symmetric="false"),
        with_options("blocks", block_size="64"),
        with_options("k-quant", algo_config="k_quant", block_size="16"),
        with_options("upgraded", matmul_mixed_precision="last_matmul:int8"),
    ]
    assert_twins(toolchain, drawn, variants, tmp_path)


def test_a_source_that_streams_gives_the_same(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    """Its weights are too large to be there all the time, and nothing reads one that is not held."""
    assert_streams(toolchain, large, [INT4, FP16], tmp_path)


def test_it_takes_a_fraction_of_the_memory_that_the_builder_takes(
    toolchain: Toolchain, large: Path, tmp_path: Path
) -> None:
    with data_limit(1 << 30):
        lean = build(toolchain, large, [INT4], tmp_path / "lean", log=tmp_path / "log")
        short = build(toolchain, large, [INT4], tmp_path / "short", log=tmp_path / "log", stock=True)
    assert list(short.failures) == [INT4.name]
    assert_as_stock(lean, toolchain, large, [INT4], tmp_path / "stock")
    (said,) = (e for e in lean.events if e["event"] == "built")
    assert said["peak_memory"] < 1.2e9


def test_matrices_that_are_written_transposed_take_no_more(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    """The largest one is 8192 x 3072, 100 MB in 32 bits, and each thread has one."""
    source = wide("phi-3.5-mini", drawn, tmp_path / "source")
    built = build(toolchain, source, [FP32], tmp_path / "built", log=tmp_path / "log")
    (said,) = (e for e in built.events if e["event"] == "built")
    assert said["peak_memory"] < 1.2e9


@pytest.mark.sweep
def test_every_row_of_a_real_width_equals_the_builders_files(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    for variant in ROWS:
        assert_twins(toolchain, large, [variant], tmp_path / variant.short_name)


@pytest.mark.parametrize("writes", [40, *(pytest.param(n, marks=pytest.mark.sweep) for n in (0, 1, 12))])
def test_a_killed_build_goes_on_from_its_complete_parts(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, writes: int
) -> None:
    variants = [INT4, FP16, MIXED]
    whole = build(toolchain, drawn, variants, tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", variants)
    run_with(killed_after(writes), toolchain, drawn, variants, killed, threads=1)
    assert "model.onnx.data" not in killed.files(INT4.name)
    empty(killed)
    run_build(toolchain, drawn, variants, killed, log=tmp_path / "log")
    assert_same(killed, whole)
    first = next(e for e in killed.progress if e["what"] == "writing")
    assert (first["done"] > first["total"] / 4) == (writes >= 40)  # a third of it is the embeddings


def test_variants_of_which_one_is_further_along_go_on_together(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    whole = build(toolchain, drawn, [INT4, FP16], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [INT4, FP16])
    run_with(killed_after(12), toolchain, drawn, [FP16], killed, threads=1)
    empty(killed)
    run_build(toolchain, drawn, [INT4, FP16], killed, log=tmp_path / "log")
    assert_same(killed, whole)


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
def test_an_unknown_model_goes_the_builders_own_way(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, change: str, variant: Variant, reason: str
) -> None:
    assert_goes_stock(READY + change, toolchain, drawn, variant, tmp_path, reason, threads=1)


def test_tensors_that_transformers_would_add_or_drop_go_the_builders_own_way(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    def rename(weights: checkpoints.Weights) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [2], bytes(8))

    source = checkpoints.change_weights(copy_of(drawn, tmp_path / "source"), rename)
    built = build(toolchain, source, [INT4], tmp_path / "job", log=tmp_path / "log")
    assert built.notes == ["Stock path: its tensors are not those that transformers has for this architecture"]
    assert built.names == [INT4.name]


FUZZED = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from bot.formats.onnx.worker.quantizers import agrees, default, kernel_of, symmetric_blocks
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
    ours = int(run_python(toolchain, FUZZED, ROOT, seed))
    assert ours > 120  # of 240


ROWS_APART = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from bot.formats.onnx.worker.quantizers import default, k_quant
values = torch.randn(64, 192, generator=torch.Generator().manual_seed(0)).half()
for quantizer in (k_quant(4, 32), k_quant(8, 32), default(4, 32, symmetric=False), default(4, 32, symmetric=True)):
    whole = quantizer(values)
    parts = [quantizer(values[i : i + 6]) for i in range(0, 64, 6)]
    for at, array in enumerate(whole):
        assert np.concatenate([p[at] for p in parts]).tobytes() == array.tobytes()
"""


def test_rows_apart_give_the_bytes_of_all_rows_together(toolchain: Toolchain) -> None:
    run_python(toolchain, ROWS_APART, ROOT)


# As the worker's own modules do before they import the toolchain.
READY = """
from bot.formats.onnx.worker import runtime
runtime.send_nothing()
from bot.worker.checkpoint import forbid_remote_code
forbid_remote_code()
from bot.formats.onnx.worker import graph, lean
"""


def killed_after(writes: int) -> str:
    return READY + killing("formats.onnx.worker.data:_Open", "put", after=writes)
