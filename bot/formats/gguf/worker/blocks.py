"""The blocks of ggml's types that have evenly spaced levels: which levels they have, and the code of each weight.

A block holds 32 or 256 neighbouring weights. Each weight is its code times the scale of its group, plus the group's
offset. The layouts are those of ggml-common.h (the structures block_q4_K and so on) and of dequantize_row_q4_K and its
siblings in ggml-quants.c.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.worker.solver import Grid, Solved

Array = Any  # numpy is not installed where mypy runs
_Levels = Callable[[Array], tuple[Array, Array]]  # bytes of blocks, by block: scales and offsets of their groups

_BITS_OF_BYTE = 8


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """Some bits of all codes of a block: in ``parts`` of ``span`` bytes each, from the byte ``at`` on.

    A byte holds the bits of as many weights as it has room for, which lie ``span`` weights apart; the first one has the
    lowest. ``bits`` is how many each has here, and ``shift`` how many lower ones it has in other planes.
    """

    at: int
    parts: int
    span: int
    bits: int
    shift: int = 0

    def _shifts(self) -> Array:
        return np.arange(0, _BITS_OF_BYTE, self.bits, dtype=np.uint8)[:, None]

    def _bytes(self, blocks: Array) -> Array:
        return blocks[:, self.at : self.at + self.parts * self.span]

    def read(self, blocks: Array) -> Array:
        """Return what the plane says of each code, of shape (blocks, weights)."""
        found = self._bytes(blocks).reshape(len(blocks), self.parts, 1, self.span) >> self._shifts()
        found &= (1 << self.bits) - 1
        return found.reshape(len(blocks), -1) << self.shift

    def write(self, blocks: Array, codes: Array) -> None:
        """Put a plane's bits of codes into blocks."""
        part = (codes >> self.shift) & ((1 << self.bits) - 1)
        spread = part.reshape(len(blocks), self.parts, -1, self.span) << self._shifts()
        self._bytes(blocks)[:] = np.bitwise_or.reduce(spread, axis=2).reshape(len(blocks), -1)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A type: the ``weights`` of a block, its ``size`` in bytes, its grid, and where levels and codes are in it."""

    weights: int
    size: int
    grid: Grid
    levels: _Levels
    planes: Sequence[_Plane]

    def read(self, packed: Array, columns: int) -> Solved:
        """Return levels and codes of rows of so many columns, from bytes in any shape."""
        blocks = packed.reshape(-1, self.size)
        scales, offsets = self.levels(blocks)
        codes = self.planes[0].read(blocks)
        for plane in self.planes[1:]:
            codes |= plane.read(blocks)
        rows = len(blocks) * self.weights // columns
        return Solved(codes=codes.reshape(rows, -1), scales=scales.reshape(rows, -1), offsets=offsets.reshape(rows, -1))

    def write(self, packed: Array, codes: Array) -> None:
        """Put codes, of shape (rows, columns) in bytes, in place of those that are there; levels stay."""
        blocks, by_block = packed.reshape(-1, self.size), codes.reshape(-1, self.weights)
        for plane in self.planes:
            plane.write(blocks, by_block)


def _half(blocks: Array, at: int) -> Array:
    """Return a number in 16 bits of each block as float32, of shape (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _of_k4(blocks: Array) -> tuple[Array, Array]:
    """Read Q4_K and Q5_K: eight scales and eight minima in six bits each, and a float of each kind that scales them."""
    packed = blocks[:, 4:16].reshape(-1, 3, 4)
    low, least, both = packed[:, 0], packed[:, 1], packed[:, 2]
    scales = np.concatenate([low & 63, (both & 15) | (low >> 6) << 4], axis=1)
    minima = np.concatenate([least & 63, (both >> 4) | (least >> 6) << 4], axis=1)
    return _half(blocks, 0) * scales, -(_half(blocks, 2) * minima)


def _of_k2(blocks: Array) -> tuple[Array, Array]:
    packed = blocks[:, :16]
    return _half(blocks, 80) * (packed & 15), -(_half(blocks, 82) * (packed >> 4))


def _of_k3(blocks: Array) -> tuple[Array, Array]:
    low, high = blocks[:, 96:104], blocks[:, 104:108]
    shifts: Array = np.arange(0, _BITS_OF_BYTE, 2, dtype=np.uint8)[:, None]
    of_high = ((high[:, None, :] >> shifts) & 3).reshape(-1, 16)
    scales = np.concatenate([low & 15, low >> 4], axis=1) | of_high << 4
    return _around(_half(blocks, 108) * (scales.astype(np.float32) - 32), 4)


def _of_k6(blocks: Array) -> tuple[Array, Array]:
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return _around(_half(blocks, 208) * scales, 32)


def _around(scales: Array, middle: int) -> tuple[Array, Array]:
    return scales, scales * np.float32(-middle)


def _grid(bits: int, group: int) -> Grid:
    return Grid(bits=bits, group=group, offsets="free", stored=np.asarray)


#: By the number of ggml_type. Types of eight bits and more lose nothing that is worth the work; those with a codebook
#: have levels of several weights at once.
LAYOUTS: Mapping[int, Layout] = {
    2: Layout(  # Q4_0
        weights=32,
        size=18,
        grid=_grid(4, 32),
        levels=lambda blocks: _around(_half(blocks, 0), 8),
        planes=[_Plane(at=2, parts=1, span=16, bits=4)],
    ),
    6: Layout(  # Q5_0
        weights=32,
        size=22,
        grid=_grid(5, 32),
        levels=lambda blocks: _around(_half(blocks, 0), 16),
        planes=[_Plane(at=6, parts=1, span=16, bits=4), _Plane(at=2, parts=4, span=1, bits=1, shift=4)],
    ),
    10: Layout(  # Q2_K
        weights=256,
        size=84,
        grid=_grid(2, 16),
        levels=_of_k2,
        planes=[_Plane(at=16, parts=2, span=32, bits=2)],
    ),
    11: Layout(  # Q3_K
        weights=256,
        size=110,
        grid=_grid(3, 16),
        levels=_of_k3,
        planes=[_Plane(at=32, parts=2, span=32, bits=2), _Plane(at=0, parts=1, span=32, bits=1, shift=2)],
    ),
    12: Layout(  # Q4_K
        weights=256,
        size=144,
        grid=_grid(4, 32),
        levels=_of_k4,
        planes=[_Plane(at=16, parts=4, span=32, bits=4)],
    ),
    13: Layout(  # Q5_K
        weights=256,
        size=176,
        grid=_grid(5, 32),
        levels=_of_k4,
        planes=[_Plane(at=48, parts=4, span=32, bits=4), _Plane(at=16, parts=1, span=32, bits=1, shift=4)],
    ),
    14: Layout(  # Q6_K
        weights=256,
        size=210,
        grid=_grid(6, 16),
        levels=_of_k6,
        planes=[_Plane(at=0, parts=2, span=64, bits=4), _Plane(at=128, parts=2, span=32, bits=2, shift=4)],
    ),
}
