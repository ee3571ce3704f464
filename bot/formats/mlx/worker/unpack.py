"""Quantized matrices of MLX as float32 numbers, unpacked by numpy where that is exactly what MLX says.

MLX's CPU backend takes 1.5 to 9 ns for a weight, by the processor; this takes about one.
"""

import sys
from typing import Any

import numpy as np

from bot.worker import packed

Array = Any  # numpy is not installed where mypy runs


def dequantized(w: Any, scales: Any, biases: Any, **how: Any) -> Array:
    """Return what ``mx.dequantize`` does of float32 scales and biases, as an array of numpy.

    ``how`` has the bits, the group size and the mode.
    """
    import mlx.core as mx

    bits, affine = how["bits"], how.get("mode", "affine") == "affine"
    if not (bits in (4, 8) and affine and sys.byteorder == "little"):
        return np.asarray(mx.dequantize(w, scales, biases, **how))
    stored = np.ascontiguousarray(np.asarray(w)).view(np.uint8)
    values: Array = packed.codes(stored, bits).astype(np.float32)
    groups = values.reshape(*values.shape[:-1], -1, how["group_size"])
    groups *= np.asarray(scales)[..., None]
    groups += np.asarray(biases)[..., None]
    return values
