"""What the pinned onnxruntime computes of a mixture of experts on processors, which is why Phi's are refused."""

import json

import pytest

from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

# A graph of one QMoE of 8 bits, with the matrices of its experts as onnxruntime-genai's builder makes Phi's (w1, w2 and
# w3 apart), and as it makes those of other models (w1 and w3 in one). Prints what came of each.
_ASK = """
import json
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper

EXPERTS, WIDTH, INNER, ROWS = 4, 64, 96, 8
onnxruntime.set_default_logger_severity(4)
drawn = np.random.default_rng(0)
given = {name: drawn.standard_normal((ROWS, n)).astype("f4") for name, n in (("x", WIDTH), ("scores", EXPERTS))}

def matrix(rows, inputs):
    return drawn.integers(0, 256, (EXPERTS, rows, inputs), dtype="u1"), np.full((EXPERTS, rows), 0.01, "f4")

def run(matrices, **how):
    names, values = ["x", "scores"], {}
    for number, (levels, scales) in enumerate(matrices, 1):
        values |= {f"w{number}": levels, f"s{number}": scales}
        names += [f"w{number}", f"s{number}", ""]
    node = helper.make_node("QMoE", names, ["y"], domain="com.microsoft", k=2, expert_weight_bits=8,
                            normalize_routing_weights=1, **how)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [info(n, TensorProto.FLOAT, list(v.shape)) for n, v in given.items()],
        [info("y", TensorProto.FLOAT, [ROWS, WIDTH])],
        initializer=[onnx.numpy_helper.from_array(v, n) for n, v in values.items()])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)[0]

apart = [matrix(INNER, WIDTH), matrix(WIDTH, INNER), matrix(INNER, WIDTH)]
joined = [matrix(2 * INNER, WIDTH), matrix(WIDTH, INNER)]
try:
    run(apart, activation_type="silu", use_sparse_mixer=1)
    said = ""
except Exception as error:
    said = str(error)
plain, mixed = (run(joined, activation_type="swiglu", swiglu_fusion=1, use_sparse_mixer=n) for n in (0, 1))
print(json.dumps({"apart": said, "mixer changes nothing": bool(np.array_equal(plain, mixed))}))
"""


def test_on_processors_it_takes_no_third_matrix_and_passes_over_the_sparse_mixer() -> None:
    """Where this fails, onnxruntime has learnt it: see whether Phi's mixtures can be built now (formats/onnx)."""
    found = json.loads(run_python(ensure("onnx", Silent()), _ASK))
    assert "FC3 gating is not yet implemented on CPU for QMoE" in found["apart"]
    assert found["mixer changes nothing"]
