"""MLX's matrices as they are solved are packed as MLX unpacks them. Of whole files see tests/worker."""

from pathlib import Path

import pytest

import bot
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

# Prints the largest difference between codes and what MLX makes of them, for each number of bits.
_UNPACK = """
import sys
import mlx.core as mx, numpy as np
sys.path.insert(0, sys.argv[1])
from bot.formats.mlx.worker.calibrated import packed

for bits in (2, 3, 4, 6, 8):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (5, 128)).astype(np.uint8)
    scales, biases = mx.ones((5, 2)), mx.zeros((5, 2))
    got = mx.dequantize(mx.array(packed(codes, bits)), scales, biases, group_size=64, bits=bits)
    print(np.abs(np.asarray(got) - codes).max())
"""


def test_codes_are_packed_as_mlx_unpacks_them() -> None:
    assert run_python(ensure("mlx", Silent()), _UNPACK, Path(bot.__file__).parents[1]).split() == ["0.0"] * 5
