"""The numbers that are constants of an OpenVINO graph."""

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

INT4 = catalogue.all_variants()["openvino/int4"]
SAME = "the epsilon of norms: 1e-05; the scale of attention: 0.125; the sliding window: 0"
SET = """
import sys
sys.modules["openvino_telemetry"] = None
import numpy as np, openvino
from openvino import opset13 as ops
source, out, name, number, value = sys.argv[1:]
model = openvino.Core().read_model(source)
node = next(n for n in model.get_ordered_ops() if n.get_friendly_name().endswith(name))
node.input(int(number)).replace_source_output(ops.constant(np.float32(value)).output(0))
openvino.save_model(model, out, compress_to_fp16=False)
"""
ATTENTION = "layers.3.self_attn/aten::scaled_dot_product_attention/ScaledDotProductAttention"


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("openvino", Silent())


@pytest.mark.parametrize("variant", rows("openvino"), ids=lambda v: v.short_name)
def test_every_row_has_its_source_s_numbers(
    openvino_files: Built, toolchain: Toolchain, sample: Path, variant: Variant
) -> None:
    assert compared(toolchain, openvino_files.folders[variant.name], variant, sample) == SAME


@pytest.mark.parametrize(
    ("node", "number", "value", "said"),
    [
        *(
            (f"{place}/aten::add/Add", 1, 1e-4, f"{place}, is 0.0001, the source's 1e-05")
            for place in ("layers.0.input_layernorm", "layers.2.post_attention_layernorm", "model.norm")
        ),
        (ATTENTION, 4, 0.126, "layers.3.self_attn, is 0.126, the source's 0.125"),
    ],
)
def test_one_operation_with_another_number_is_found(
    openvino_files: Built,
    toolchain: Toolchain,
    sample: Path,
    tmp_path: Path,
    node: str,
    number: int,
    value: float,
    said: str,
) -> None:
    model = openvino_files.folders[INT4.name] / "openvino_model.xml"
    run_python(toolchain, SET, model, tmp_path / model.name, node, number, value)
    assert said in compared(toolchain, tmp_path, INT4, sample)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("phi-3-mini-4k", "the sliding window: 100"),
        ("phi-2", "the epsilon of norms: 1e-05"),
        ("phi-3.5-moe", "the router's jitter: 0.01"),
    ],
)
def test_every_kind_of_phi_has_its_own(
    toolchain: Toolchain, kind_of_phi: Callable[[str], tuple[Path, Path]], tmp_path: Path, kind: str, said: str
) -> None:
    source, _ = kind_of_phi(kind)
    result = build(toolchain, source, [INT4], tmp_path / "job", log=tmp_path / "log")
    assert said in compared(toolchain, result.folders[INT4.name], INT4, source)
