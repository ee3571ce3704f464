"""GGUF straight from the checkpoint: the bytes of llama.cpp's own tools, without the file in between."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.errors import BuildError
from bot.progress import Silent
from bot.records.artifacts import Json, Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from bot.worker.harness import NotFinite
from tests.worker.checkpoints import Weights, change_weights, in_shards, in_types, with_newer_keys
from tests.worker.limits import data_limit, wide
from tests.worker.running import build, copy_of, prepare, rows, run_build
from tests.worker.stock import assert_same
from tests.worker.twins import assert_goes_stock, assert_streams, assert_twins, families, killing, run_with

pytestmark = pytest.mark.toolchain

ROWS = rows("gguf")
Q2_K, Q4_K_S, Q4_K_M, Q8_0, F16, BF16, F32 = (
    catalogue.all_variants()[f"gguf/{n}"] for n in ("q2_k", "q4_k_s", "q4_k_m", "q8_0", "f16", "bf16", "f32")
)
CONVERTED = families(  # the other architectures; the sample is of Phi-3's
    always=("phi-2", "phi-3.5-moe"), covered=lambda name: name != "phi-tiny-moe"
)


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def large(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer of Phi-3.5-mini at its true size: 310 million weights, all zero."""
    return wide("phi-3.5-mini", drawn, tmp_path_factory.mktemp("large") / "source")


def test_every_row_equals_the_file_of_llama_cpps_tools(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    assert_twins(toolchain, drawn, ROWS, tmp_path, in_order=False)


@pytest.mark.parametrize("family", CONVERTED)
def test_every_family_equals_the_files_of_llama_cpps_tools(
    toolchain: Toolchain, drawn_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    assert_twins(toolchain, drawn_of(family), [Q2_K, Q4_K_M, Q8_0, F16, BF16, F32], tmp_path, in_order=False)


@pytest.mark.parametrize(
    "kind_of",
    [lambda _: "F16", lambda _: "F32", lambda name: "BF16" if "layers.1." in name else "F16"],
    ids=["F16", "F32", "mixed"],
)
def test_weights_of_every_type_equal_the_files_of_llama_cpps_tools(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, kind_of: Callable[[str], str]
) -> None:
    source = in_types(copy_of(drawn, tmp_path / "source"), kind_of)
    assert_twins(toolchain, source, [Q4_K_M, Q8_0, F16, BF16, F32], tmp_path, in_order=False)


def test_shards_and_newer_keys_equal_the_files_of_llama_cpps_tools(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    source = in_shards(with_newer_keys(copy_of(drawn, tmp_path / "source")))
    assert_twins(toolchain, source, [Q4_K_M, Q8_0, BF16], tmp_path, in_order=False)


def test_weights_of_a_real_size_stream_through(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    assert_streams(toolchain, large, [Q8_0, F16], tmp_path, in_order=False)


def test_it_takes_a_fraction_of_the_memory_that_llama_cpps_tools_take(
    toolchain: Toolchain, large: Path, tmp_path: Path
) -> None:
    with data_limit(600 << 20):
        built = build(toolchain, large, [Q8_0], tmp_path / "job", log=tmp_path / "log")
        with pytest.raises(BuildError, match="allocate"):
            build(toolchain, large, [Q8_0], tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert sum(map(len, built.files(Q8_0.name).values())) > 300e6
    (said,) = (e for e in built.events if e["event"] == "built")
    assert said["peak_memory"] < 400 << 20


def test_no_converted_file_is_written(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    """The peak of what the scratch folder takes, seen from inside at every step of the pass."""
    seen = """
import os
from pathlib import Path
from bot.formats.gguf.worker import layout
task = Path(sys.argv[2]).parent
quantize = layout.quantize
def looking(*args, **kwargs):
    found = quantize(*args, **kwargs)
    print(sum(f.stat().st_blocks * 512 for f in task.rglob("*.skeleton")), file=sys.stderr)
    return found
layout.quantize = looking
"""
    ran = run_with(seen, toolchain, large, [Q8_0], prepare(tmp_path / "job", [Q8_0]))
    (taken,) = (int(line) for line in ran.printed.splitlines() if line.isdigit())
    assert 0 < taken < 4 << 20


@pytest.mark.parametrize("writes", [10, *(pytest.param(n, marks=pytest.mark.sweep) for n in (0, 57))])
def test_a_killed_build_goes_on_from_its_complete_parts(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, writes: int
) -> None:
    variants = [Q4_K_M, F16]
    whole = build(toolchain, drawn, variants, tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", variants)
    assert run_with(killed_after(writes), toolchain, drawn, variants, killed).killed
    assert all(killed.files(v.name) == {} for v in variants)

    run_build(toolchain, drawn, variants, killed, log=tmp_path / "log")
    assert_same(killed, whole)
    first = next(e for e in killed.progress if e["what"].startswith("writing"))
    assert (first["done"] > first["total"] / 3) == (writes >= 40)


def test_variants_of_which_one_is_further_along_go_on_together(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    variants = [Q4_K_M, F16]
    whole = build(toolchain, drawn, variants, tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", variants)
    run_with(killed_after(20), toolchain, drawn, [F16], killed)
    run_build(toolchain, drawn, variants, killed, log=tmp_path / "log")
    assert_same(killed, whole)


def test_a_partial_file_of_other_weights_with_the_same_name_is_discarded(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    """A folder stands for one build key; but a file of another layout is seen to be another."""
    whole = build(toolchain, drawn, [F16], tmp_path / "whole", model="Another", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [F16])
    run_with(killed_after(20), toolchain, drawn, [F16], killed)
    partial = tmp_path / "killed" / "partial" / "f16"
    for file in partial.iterdir():
        file.rename(partial / file.name.replace("Phi-sample", "Another"))
    run_build(toolchain, drawn, [F16], killed, model="Another", log=tmp_path / "log")
    assert_same(killed, whole)


@pytest.mark.parametrize("bits", [0xFF80, 0x7F81], ids=["infinity", "signaling nan"])
def test_nan_and_infinity_are_refused_where_the_quantizer_refuses_them(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, bits: int
) -> None:
    def change(weights: Weights) -> None:
        kind, shape, data = weights["model.layers.2.mlp.down_proj.weight"]
        weights["model.layers.2.mlp.down_proj.weight"] = kind, shape, data[:500] + struct.pack("<H", bits) + data[502:]

    source = change_weights(copy_of(drawn, tmp_path / "source"), change)
    variants = [Q4_K_M, Q8_0, F16, BF16, F32]
    fast = build(toolchain, source, variants, tmp_path / "fast", log=tmp_path / "log")
    stock = build(toolchain, source, variants, tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert fast.failures == stock.failures
    assert fast.failures == dict.fromkeys((Q4_K_M.name, Q8_0.name), "tensor 'blk.2.ffn_down.weight' has invalid data")
    for built in (fast, stock):  # the weights are at fault, and not the tool
        assert {e["kind"] for e in built.events if e["event"] == "failed"} == {NotFinite.kind}
    assert_same(fast, stock)
    assert not [p.name for p in (tmp_path / "fast" / "partial").rglob("*") if p.suffix in (".part", ".journal")]


def test_types_that_need_an_importance_matrix_are_refused_as_the_quantizer_refuses_them(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    variants = [*map(variant_of, ("IQ1_S", "IQ2_XXS", "Q2_K_S")), Q8_0]
    fast = build(toolchain, drawn, variants, tmp_path / "fast", log=tmp_path / "log")
    stock = build(toolchain, drawn, variants, tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert fast.failures == stock.failures
    assert fast.failures == dict.fromkeys([v.name for v in variants[:-1]], "this quantization requires an imatrix!")
    assert_same(fast, stock)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            "del entries['blk.1.ffn_up.weight']",
            "Missing importance matrix for tensor blk.1.ffn_up.weight in a very low-bit quantization",
        ),
        (
            "entries['blk.1.ffn_up.weight'] = entries['blk.1.ffn_up.weight'][1:].copy()",
            "imatrix size 255 is different from tensor size 256 for blk.1.ffn_up.weight",
        ),
        ("entries['blk.1.ffn_up.weight'][3] = np.nan", "imatrix contains non-finite value nan"),
    ],
    ids=["missing", "other size", "no number"],
)
def test_a_matrix_that_does_not_fit_is_refused_as_the_quantizer_refuses_it(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, damage: str, reason: str
) -> None:
    variants = [variant_of("IQ2_XS", imatrix=True), Q8_0]
    fast, stock = prepare(tmp_path / "fast", variants), prepare(tmp_path / "stock", variants)
    for built, is_stock in ((fast, False), (stock, True)):
        ran = run_with(MATRIX.format(damage=damage), toolchain, drawn, variants, built, stock=is_stock)
        assert ran.failures == {variants[0].name: reason}
    assert_same(fast, stock)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "from bot.formats.gguf.worker import direct; direct.PINNED['llama-cpp-python'] = '0.1'",
            "llama-cpp-python is 0.3.36, and it was compared with 0.1",
        ),
        (
            "import re; from bot.formats.gguf.worker import layout; layout._TENSOR = re.compile('another log')",
            "a dry run of llama.cpp's quantizer does not name each tensor once",
        ),
        (
            "import re; from bot.formats.gguf.worker import layout; layout._TOTAL = re.compile('([0-9.]+) MiB')",
            "a dry run of llama.cpp's quantizer comes to another size",
        ),
    ],
    ids=["another version", "another log", "another size"],
)
def test_an_unknown_model_goes_the_stock_way(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, change: str, reason: str
) -> None:
    assert_goes_stock(change, toolchain, drawn, Q8_0, tmp_path, reason)


def test_tensors_that_are_not_floats_go_the_stock_way(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    def change(weights: Weights) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("I64", [1], bytes(8))

    source = change_weights(copy_of(drawn, tmp_path / "source"), change)
    built = build(toolchain, source, [Q8_0], tmp_path / "job", log=tmp_path / "log")
    (note,) = built.notes
    assert note.startswith("Stock path: model.safetensors: model.layers.0.self_attn.rotary_emb.inv_freq is stored as")
    assert built.names == [Q8_0.name]


MATRIX = """
import numpy as np
from bot.formats.gguf.worker import importance
from bot.formats.gguf.worker.imatrix import ImportanceMatrix
widths = dict(attn_qkv=256, attn_output=256, ffn_up=256, ffn_down=512)
names = [(f"blk.{{i}}.{{part}}.weight", width) for i in range(4) for part, width in widths.items()]
entries = {{name: np.linspace(0.1, 2, width, dtype=np.float32) for name, width in names}}
{damage}
importance.read = lambda _: ImportanceMatrix(file="imatrix.gguf", dataset="a text", chunks=3, entries=entries)
"""


def killed_after(writes: int) -> str:
    return killing("worker.placed:PlacedFile", "write", after=writes)


def variant_of(kind: str, **options: Json) -> Variant:
    options["ftype"] = kind
    return Variant(name=f"gguf/{kind.lower()}", precision="int2", bits_per_weight=2, summary="No row", options=options)
