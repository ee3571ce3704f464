"""MLX without Metal: the products that measuring takes to numpy are those of MLX itself."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parent.parent

# Runs layers on float32 activations as they are and with the products replaced; prints the largest relative differences
# of ten rows and of one, each with matrices that are made float32 at once and in blocks.
COMPARE = """
import itertools, json, sys
sys.path.insert(0, sys.argv[1])
import mlx.core as mx
from mlx import nn
from mlx_lm.models.switch_layers import SwitchGLU
from bot.formats.mlx.worker import cpu

mx.random.seed(0)
linear, embedding = nn.Linear(256, 192, bias=True), nn.Embedding(320, 256)
experts, quantized_experts = SwitchGLU(256, 128, 4), SwitchGLU(256, 128, 4)
nn.quantize(quantized_experts, group_size=64, bits=4)


def chosen(x):
    return mx.random.randint(0, 4, (*x.shape[:-1], 2), key=mx.random.key(1))


def of_many(experts, x):
    return experts(repeated := mx.repeat(x, 40, axis=1), chosen(repeated))


layers = {
    "linear": linear,
    "linear without bias": nn.Linear(256, 192, bias=False),
    "tied embedding": embedding.as_linear,
    "4 bits": linear.to_quantized(64, 4),
    "3 bits": linear.to_quantized(64, 3),
    "8 bits, tied embedding": embedding.to_quantized(64, 8).as_linear,
    "experts": lambda x: experts(x, chosen(x)),
    "experts, sorted": lambda x: of_many(experts, x),
    "experts, 4 bits": lambda x: quantized_experts(x, chosen(x)),
    "experts, 4 bits, sorted": lambda x: of_many(quantized_experts, x),
}
x = mx.random.normal((2, 5, 256))
originals = mx.quantized_matmul, mx.gather_mm, mx.gather_qmm, nn.Linear.__call__
found = []
for at_once, rows in itertools.product((cpu._AT_ONCE, 20 * 256), (x, x[:1, :1])):
    cpu._AT_ONCE = at_once
    for name, layer in layers.items():
        expected = layer(rows)
        mx.eval(expected)
        with cpu.float32_products():
            got = layer(rows)
        assert got.shape == expected.shape and got.dtype == expected.dtype, name
        found.append((mx.abs(got - expected).max() / mx.abs(expected).max()).item())
queries, keys = mx.random.normal((2, 4, 300, 32)), mx.random.normal((2, 2, 340, 32))
seen = mx.random.uniform(shape=(300, 340)) > 0.2
for mask in (None, "causal", seen, mx.where(seen, 0.0, -1.0)):
    expected = mx.fast.scaled_dot_product_attention(queries, keys, keys, scale=0.2, mask=mask)
    mx.eval(expected)
    with cpu.float32_products():
        got = mx.fast.scaled_dot_product_attention(queries, keys, keys, scale=0.2, mask=mask)
    found.append((mx.abs(got - expected).max() / mx.abs(expected).max()).item())
restored = (mx.quantized_matmul, mx.gather_mm, mx.gather_qmm, nn.Linear.__call__) == originals
print(json.dumps({"differences": found, "restored": restored}))
"""


def test_products_in_float32_are_those_of_mlx() -> None:
    said = json.loads(run_python(_toolchain(), COMPARE, ROOT))
    assert len(said["differences"]) == 44
    assert max(said["differences"]) < 1e-5
    assert said["restored"]


# Prints of which bits our numbers are exactly those of MLX, and which of them MLX was asked for.
UNPACKED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import mlx.core as mx
from bot.formats.mlx.worker.unpack import dequantized

matrix, stock, equal, asked = mx.random.normal((96, 256)).astype(mx.bfloat16), mx.dequantize, [], []
for bits in (2, 3, 4, 6, 8):
    packed, *rest = mx.quantize(matrix, group_size=64, bits=bits)
    rest = [array.astype(mx.float32) for array in rest]
    expected = np.asarray(stock(packed, *rest, group_size=64, bits=bits))
    mx.dequantize = lambda *a, bits, **k: asked.append(bits) or stock(*a, bits=bits, **k)
    got = dequantized(packed[8:], *(a[8:] for a in rest), group_size=64, bits=bits)
    equal += [bits] * np.array_equal(got, expected[8:])
    mx.dequantize = stock
print(json.dumps({"equal": equal, "asked": asked}))
"""


def test_numbers_that_numpy_unpacks_are_exactly_those_of_mlx() -> None:
    said = json.loads(run_python(_toolchain(), UNPACKED, ROOT))
    assert said == {"equal": [2, 3, 4, 6, 8], "asked": [2, 3, 6]}


# Runs a fused operation, and prints its result.
FUSED = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.environ["TMPDIR"] = sys.argv[2]
import mlx.core as mx
from mlx_lm.models.activations import swiglu
from bot.formats.mlx.worker import cpu
if sys.argv[3] == "prepared":
    cpu.prepare()
print(swiglu(mx.ones((2, 4)), mx.ones((2, 4))).sum().item())
"""


def test_nothing_is_compiled_while_mlx_runs(tmp_path: Path) -> None:
    results = [run_python(_toolchain(), FUSED, ROOT, tmp_path, "prepared")]
    assert list(tmp_path.iterdir()) == []
    if sys.platform == "linux" and shutil.which("g++"):
        results.append(run_python(_toolchain(), FUSED, ROOT, tmp_path, "as it is"))
        assert list(tmp_path.rglob("*.so")) != []  # so this test can fail
    assert [float(r) for r in results] == pytest.approx([8 * 0.731] * len(results), rel=0.01)


def _toolchain() -> Toolchain:
    return ensure("mlx", Silent())
