"""Quantized matrices of MLX as float32 numbers, unpacked by numpy where that is exactly what MLX says.

MLX's CPU backend takes 1.5 to 9 ns for a weight, by the processor; this takes about one.
"""

import sys
from typing import Any

import numpy as np

from bot.worker import packed

Array = Any  # numpy is not installed where mypy runs


def dequantized(w: Any, scales: Any, biases: Any, *, room: Array = None, **how: Any) -> Array:
    """Return what ``mx.dequantize`` does with scales and biases in float32, as an array of numpy.

    ``how`` has the bits, the group size and the mode. What numpy unpacks lies in a ``room`` for as many rows or more,
    if there is one.
    """
    import mlx.core as mx

    scales, biases = (a.astype(mx.float32) for a in (scales, biases))
    bits, affine = how["bits"], how.get("mode", "affine") == "affine"
    if not (bits in (4, 8) and affine and sys.byteorder == "little"):
        return np.asarray(mx.dequantize(w, scales, biases, **how))
    stored = np.asarray(w).view(np.uint8)
    shape = (len(w), scales.shape[-1] * how["group_size"])
    values: Array = np.empty(shape, dtype=np.float32) if room is None else room[: len(w)]
    groups = values.reshape(*scales.shape, how["group_size"])
    scale, offset = (np.asarray(a)[..., None] for a in (scales, biases))
    for few in packed.few_rows(*shape):
        groups[few] = packed.codes(stored[few], bits).reshape(groups[few].shape)
        groups[few] *= scale[few]
        groups[few] += offset[few]
    return values
