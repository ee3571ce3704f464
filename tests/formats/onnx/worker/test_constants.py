"""The numbers in an ONNX graph's attributes: read from every row's graph, whatever device it is for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.running import Built, build, rows, run_python
from tests.worker.stated import compared

pytestmark = pytest.mark.toolchain

INT4, DML = (catalogue.all_variants()[f"onnx/{name}"] for name in ("cpu-int4", "dml-int4"))
SAME = (
    "the epsilon of norms: 1e-05; heads: 4; heads of keys and values: 2; the cap of logits: 0; the sliding window: 0; "
    "the scale of attention: 0.125"
)
SET = """
import sys, onnx
path, name, attribute, value = sys.argv[1:]
model = onnx.load(path, load_external_data=False)
node = next(n for n in model.graph.node if n.name == name)
kept = [a for a in node.attribute if a.name != attribute]
del node.attribute[:]
node.attribute.extend([*kept, onnx.helper.make_attribute(attribute, eval(value))])
onnx.save(model, path)
"""
NORMS = [
    "layers.0/input_layernorm/LayerNorm",
    "layers.2/post_attention_layernorm/SkipLayerNorm",
    "layers.4/final_norm_layernorm/SkipLayerNorm",
]
ATTENTION = "layers.3/attn/GroupQueryAttention"


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


@pytest.mark.parametrize("variant", rows("onnx"), ids=lambda v: v.short_name)
def test_every_row_has_its_source_s_numbers(
    onnx_files: Built, toolchain: Toolchain, sample: Path, variant: Variant
) -> None:
    assert compared(toolchain, onnx_files.folders[variant.name], variant, sample) == SAME


@pytest.mark.parametrize(
    ("node", "attribute", "value", "said"),
    [
        *((name, "epsilon", "1e-4", "is 0.0001, the source's 1e-05") for name in NORMS),
        (ATTENTION, "scale", "0.126", "the scale of attention, layers.3/attn, is 0.126, the source's 0.125"),
        (ATTENTION, "local_window_size", "300", "the sliding window, layers.3/attn, is 300, the source's 0"),
        (ATTENTION, "softcap", "50.0", "the cap of logits, layers.3/attn, is 50, the source's 0"),
        (ATTENTION, "rotary_interleaved", "1", "has the attribute rotary_interleaved, which no Phi has"),
        (ATTENTION, "smooth_softmax", "1", "has the attribute smooth_softmax, which no Phi has"),
    ],
)
def test_one_node_with_another_number_is_found(
    onnx_files: Built,
    toolchain: Toolchain,
    sample: Path,
    tmp_path: Path,
    node: str,
    attribute: str,
    value: str,
    said: str,
) -> None:
    folder = Path(shutil.copytree(onnx_files.folders[INT4.name], tmp_path / "model"))
    run_python(toolchain, SET, folder / "model.onnx", f"/model/{node}", attribute, value)
    assert said in compared(toolchain, folder, INT4, sample)


@pytest.mark.parametrize("variant", [INT4, DML], ids=lambda v: v.short_name)
@pytest.mark.parametrize(
    ("kind", "said"), [("phi-2", "the epsilon of norms: 1e-05"), ("phi-3-mini-4k", "the sliding window: 100")]
)
def test_the_builder_is_told_what_it_would_make_up(
    toolchain: Toolchain,
    kind_of_phi: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    kind: str,
    said: str,
    variant: Variant,
) -> None:
    """By itself it takes 1e-6 for the epsilon of Phi-2, and leaves out the window of Phi-3-mini-4k."""
    source, _ = kind_of_phi(kind)
    result = build(toolchain, source, [variant], tmp_path / "job", log=tmp_path / "log")
    assert said in compared(toolchain, result.folders[variant.name], variant, source)
