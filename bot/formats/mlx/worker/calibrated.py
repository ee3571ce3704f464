"""Matrices of MLX rounded for what they are multiplied with: the shared solver on MLX's own groups."""

from typing import Any

import numpy as np

from bot.worker.calibrated import SolverAtWork
from bot.worker.rounding import bfloat16, float16
from bot.worker.solver import Grid

Array = Any  # neither mlx nor numpy is installed where mypy runs


def quantized(solver: SolverAtWork, matrix: str, rows: Array, group: int, bits: int) -> tuple[Array, Array, Array]:
    """Return what ``mx.quantize`` returns of rows, for the next ones of a matrix: codes, scales and biases."""
    import mlx.core as mx

    stored = {mx.bfloat16: bfloat16, mx.float16: float16}.get(rows.dtype, np.float32)
    grid = Grid(bits=bits, group=group, offsets="free", stored=stored)
    found, rounded = solver.solve(matrix, np.asarray(rows.astype(mx.float32)), grid)
    solver.take(rounded)
    scales, biases = (mx.array(a).astype(rows.dtype) for a in (found.scales, found.offsets))
    return mx.array(packed(found.codes, bits)), scales, biases


def packed(codes: Array, bits: int) -> Array:
    """Return codes, of shape (rows, columns) in bytes, in the bits of 32-bit words: the first one is the lowest."""
    each = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(each.reshape(len(codes), -1), axis=-1, bitorder="little").view("<u4")
