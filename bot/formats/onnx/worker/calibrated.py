"""Matrices of ONNX rounded for what they are multiplied with: the shared solver on the blocks of MatMulNBits."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.worker.moments import WHOLE
from bot.worker.rounding import float16, sixteen_bits
from bot.worker.solver import Grid, Solved

Array = Any  # numpy is not installed where mypy runs


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The levels of a node: codes of so many ``bits``, in blocks along a row. ``zero_points`` are of each block."""

    bits: int
    block: int
    zero_points: bool

    def fit(self, columns: int) -> bool:
        """Say whether the solver knows blocks of this size, on rows of so many columns."""
        return WHOLE % self.block == 0 and columns % self.block == 0

    def grid(self, dtype: Any) -> Grid:
        """Return the levels as the solver knows them, with scales of a type of numpy's: float32, or float16."""
        return Grid(
            bits=self.bits,
            group=self.block,
            offsets="zero" if self.zero_points else "middle",
            stored=float16 if dtype == np.float16 else sixteen_bits,
        )


def arrays(solved: Solved, levels: Levels, dtype: Any) -> tuple[Array, ...]:
    """Return what a node has of rows, as quantizers.py has it: codes, scales and, where it has them, zero points."""
    rows, blocks = solved.scales.shape
    codes = packed(solved.codes, levels.bits).reshape(rows, blocks, -1)
    scales = solved.scales.astype(dtype)
    if not levels.zero_points:
        return codes, scales
    return codes, scales, packed(solved.zero_points, levels.bits)


def packed(codes: Array, bits: int) -> Array:
    """Return rows of codes, one a byte; of 4 bits two, the first in the lower half, and 0 beside one that is left."""
    if bits == 8:
        return codes
    pairs = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return pairs[:, ::2] | pairs[:, 1::2] << 4
