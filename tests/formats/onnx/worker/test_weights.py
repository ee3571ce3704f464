"""The weights inside an ONNX model: as onnxruntime computes with them, and found when they are not the source's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.tasks import VerifyTask
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker import kinds
from tests.worker.running import Built, build, copy_of, rows, run_python

pytestmark = pytest.mark.toolchain

Array = Any
Arrays = dict[str, Array]

ROOT = Path(bot.__file__).parent.parent
INT4, MIXED, FP32, DML = (
    catalogue.all_variants()[f"onnx/{name}"] for name in ("cpu-int4", "cpu-int4-mixed", "cpu-fp32", "dml-int4")
)

COMPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.records.tasks import VerifyTask
from bot.worker import weights
from bot.formats.onnx.worker import weights as onnx_weights
from bot.worker.tensors import Tensors
task = VerifyTask.from_json(json.loads(sys.argv[2]))
try:
    found = weights.compare(onnx_weights.stored(task), Tensors(Path(task.source)), tied=sys.argv[3] == "tied")
    print(json.dumps({"tensors": found.tensors, "error": found.largest_error}))
except ValueError as error:
    print(json.dumps({"said": str(error)}))
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


def compared(toolchain: Toolchain, folder: Path, source: Path, *, tied: bool = False) -> dict[str, Any]:
    task = VerifyTask(artifact=str(folder), variant=INT4, source=str(source), reference="", threads=2)
    how = "tied" if tied else "apart"
    found: dict[str, Any] = json.loads(run_python(toolchain, COMPARE, ROOT, json.dumps(task.to_json()), how))
    return found


# The largest relative error of a tensor of the sample: about twice what was measured.
ERRORS = {"int4": 0.2, "int8": 0.012, "fp16": 1e-7, "fp32": 0}


@pytest.mark.parametrize("variant", rows("onnx"), ids=lambda v: v.short_name)
def test_every_row_holds_the_sources_weights_whatever_device_it_is_for(
    onnx_files: Built, toolchain: Toolchain, sample: Path, variant: Any
) -> None:
    found = compared(toolchain, onnx_files.folders[variant.name], sample)
    assert found["tensors"] == 27
    assert found["error"] <= ERRORS[variant.precision]


def test_unpacked_weights_are_those_the_runtime_computes_with(onnx_files: Built, toolchain: Toolchain) -> None:
    """Every quantized matrix times the unit matrix, by onnxruntime, with activations left in 32 bits."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, onnx, onnxruntime
from onnx import helper, numpy_helper
from bot.formats.onnx.worker import files, weights
from pathlib import Path
graph = files.read_graph(Path(sys.argv[2])).graph
found, largest = 0, 0.0
for node in graph:
    if node.op_type != "MatMulNBits":
        continue
    k, n, bits, size = (node.attributes[a].as_int() for a in ("K", "N", "bits", "block_size"))
    held = [v for v in node.inputs[1:] if v is not None]
    product = helper.make_node("MatMulNBits", ["unit", *(v.name for v in held)], ["y"], domain="com.microsoft",
                               K=k, N=n, bits=bits, block_size=size)
    alone = helper.make_graph(
        [product], "alone",
        [helper.make_tensor_value_info("unit", onnx.TensorProto.FLOAT, [k, k])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [k, n])],
        [numpy_helper.from_array(v.const_value.numpy(), v.name) for v in held],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(alone, opset_imports=opsets, ir_version=10)
    computed = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"unit": np.eye(k, dtype=np.float32)})
    shape, parts = weights.dequantized(node, *node.inputs[1:4])
    unpacked = np.concatenate([part.copy() for part in parts()])
    assert unpacked.shape == shape
    largest = max(largest, float(np.abs(computed[0].T - unpacked).max() / np.abs(unpacked).max()))
    found += 1
print(found, largest)
"""
    for variant in (INT4, MIXED):
        found, largest = run_python(toolchain, code, ROOT, onnx_files.folders[variant.name]).split()
        assert int(found) == 21
        assert float(largest) < 1e-6


@pytest.mark.parametrize("kind", ["phi-3-mini-4k", "phi-4", "phi-4-mini", "phi-2"])
def test_the_other_kinds_of_phi_hold_their_sources_weights(
    toolchain: Toolchain, kind_of_phi: Callable[[str], tuple[Path, Path]], tmp_path: Path, kind: str
) -> None:
    source, _ = kind_of_phi(kind)
    tied = bool(kinds.KINDS[kind]["tie_word_embeddings"])
    result = build(toolchain, source, [INT4, DML], tmp_path / "job", log=tmp_path / "log")
    for variant in (INT4, DML):
        found = compared(toolchain, result.folders[variant.name], source, tied=tied)
        assert 0.05 < found["error"] < 0.15


# ---- faults --------------------------------------------------------------------------------------------------


def tensors(toolchain: Toolchain, folder: Path) -> Arrays:
    """Every tensor of a model, mapped so that what is written to it is written to the file."""
    code = """
import json, sys, onnx_ir
values = onnx_ir.load(sys.argv[1]).graph.initializers.items()
print(json.dumps({n: [v.const_value.offset, v.dtype.numpy().str, list(v.shape)] for n, v in values}))
"""
    places = json.loads(run_python(toolchain, code, folder / "model.onnx"))
    data = folder / "model.onnx.data"
    return {name: np.memmap(data, kind, "r+", offset, tuple(shape)) for name, (offset, kind, shape) in places.items()}


def shift_a_row(held: Arrays) -> None:
    row = held["model.embed_tokens.weight"][1200]
    row[:] = np.roll(row, 1)


def double_a_scale(held: Arrays) -> None:
    name = next(n for n in held if n.startswith("model.layers.2.attn.o_proj.MatMul.weight_scale"))
    held[name][7, 3] *= 2


def change_a_zero_point(held: Arrays) -> None:
    held["model.layers.2.attn.o_proj.MatMul.weight_zp"][7, 1] &= 0xF0


def swap_layers(held: Arrays) -> None:
    for name in [n for n in held if n.startswith("model.layers.1.")]:
        other = name.replace("layers.1", "layers.2")
        held[name][:], held[other][:] = held[other].copy(), held[name].copy()


def permute_rows(held: Arrays) -> None:
    """Order the first head of the queries as another kind of rotary embedding would: in pairs, not in halves."""
    for name in [n for n in held if n.startswith("model.layers.0.attn.qkv_proj.")]:
        held[name][:64] = held[name][:64].reshape(2, 32, -1).swapaxes(0, 1).reshape(held[name][:64].shape)


def drop_a_norm(held: Arrays) -> None:
    held["model.layers.1.post_attention_layernorm.weight"][:] = 1


@pytest.mark.parametrize(
    ("variant", "fault", "said"),
    [
        (INT4, shift_a_row, "model.embed_tokens.weight: row 1200, "),
        (INT4, double_a_scale, "model.layers.2.self_attn.o_proj.weight: row 7, columns 96 to 127 "),
        (MIXED, double_a_scale, "model.layers.2.self_attn.o_proj.weight: row 7, columns 96 to 127 "),
        (MIXED, change_a_zero_point, "model.layers.2.self_attn.o_proj.weight: row 7, columns 64 to 95 "),
        (INT4, swap_layers, "model.layers.1."),
        (INT4, permute_rows, "model.layers.0.self_attn.qkv_proj.weight: row 1, "),
        (INT4, drop_a_norm, "model.layers.1.post_attention_layernorm.weight is "),
    ],
    ids=lambda v: getattr(v, "__name__", getattr(v, "short_name", "")),
)
def test_weights_that_are_not_the_sources_are_named(
    onnx_files: Built,
    toolchain: Toolchain,
    sample: Path,
    tmp_path: Path,
    variant: Any,
    fault: Callable[[Arrays], None],
    said: str,
) -> None:
    folder = copy_of(onnx_files.folders[variant.name], tmp_path / "faulty")
    held = tensors(toolchain, folder)
    fault(held)
    for array in held.values():
        array.flush()
    assert compared(toolchain, folder, sample)["said"].startswith(said)


# Saves a changed graph. Its tensors stay where they are.
CHANGE = """
import sys, onnx
path = sys.argv[1]
model = onnx.load(path, load_external_data=False)
nodes = {n.name: n for n in model.graph.node}
exec(sys.argv[2])
onnx.save(model, path)
"""
READ_OF_ANOTHER_LAYER = """
one, other = (nodes[f"/model/layers.{i}/attn/o_proj/MatMul_Q4"] for i in (1, 2))
for i in (1, 2):
    one.input[i], other.input[i] = other.input[i], one.input[i]
"""
ONE_MORE_FACTOR = """
norm = next(n for n in model.graph.node if "final_norm" in n.name)
norm.output[0], after = "normed", norm.output[0]
name = "model.layers.0.input_layernorm.weight"
factor = onnx.helper.make_node("Mul", ["normed", name], [after], name="/model/factor/Mul")
model.graph.node.insert(list(model.graph.node).index(norm) + 1, factor)
"""
A_LAYER_LESS = """
layer = [n for n in model.graph.node if "/layers.3/" in n.name]
for node in layer:
    model.graph.node.remove(node)
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (READ_OF_ANOTHER_LAYER, "model.layers.1.self_attn.o_proj.weight: "),
        (ONE_MORE_FACTOR, "the graph computes with model.layers.0.input_layernorm.weight in /model/factor/Mul"),
        (A_LAYER_LESS, "model.layers.3.input_layernorm.weight of the source is not in the artifact"),
    ],
    ids=["read of another layer", "one more factor", "a layer less"],
)
def test_a_graph_that_uses_the_weights_otherwise_is_found(
    onnx_files: Built, toolchain: Toolchain, sample: Path, tmp_path: Path, change: str, said: str
) -> None:
    folder = copy_of(onnx_files.folders[INT4.name], tmp_path / "faulty")
    run_python(toolchain, CHANGE, folder / "model.onnx", change)
    assert compared(toolchain, folder, sample)["said"].startswith(said)
