"""Sums over blocks of stored weights and of the original's, which tell how alike both are. Needs numpy alone."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.worker.packed import few_rows

Array = Any  # numpy is not installed where mypy runs


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over weights: squares of the original's, squares of errors, products of both sides, and errors."""

    energy: Array
    error: Array
    product: Array
    moved: Array

    @classmethod
    def of(cls, got: Array, want: Array) -> "Sums":
        """Sum over the last axis of two arrays of shape (rows, blocks, columns)."""
        energy, error, product, moved = np.empty((4, *want.shape[:-1]), dtype=np.float32)
        ones: Array = np.ones(want.shape[-1], dtype=np.float32)
        room: Array = None
        for part in few_rows(len(want), math.prod(want.shape[1:])):
            g, w = got[part], want[part]
            room = np.empty_like(w) if room is None else room
            off = np.subtract(g, w, out=room[: len(w)])
            for left, right, sums in ((w, w, energy), (off, off, error), (g, w, product)):
                np.einsum("...i,...i->...", left, right, out=sums[part])
            np.matmul(off, ones, out=moved[part])
        return cls(energy=energy, error=error, product=product, moved=moved)

    def joined(self, count: int) -> "Sums":
        """Return the sums over so many neighbours at a time, without those that are left."""
        if count == 1:
            return self
        end = self.energy.shape[-1] // count * count
        ones: Array = np.ones(count, dtype=np.float32)
        names = ("energy", "error", "product", "moved")
        return Sums(**{n: getattr(self, n)[:, :end].reshape(len(self.energy), -1, count) @ ones for n in names})

    @property
    def slope(self) -> Array:
        """By how much the stored weights are larger than the original's, by regression."""
        return ratio(self.product, self.energy, empty=1.0)

    @property
    def likeness(self) -> Array:
        """The correlation of both sides, through zero."""
        stored = self.error + 2 * self.product - self.energy
        return ratio(self.product, np.sqrt(self.energy * np.maximum(stored, 0)), empty=0.0)

    @property
    def relative_error(self) -> Array:
        """The energy of errors over that of the original's weights."""
        return ratio(self.error, self.energy, empty=0.0)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of a tensor on both sides, in blocks: ``got`` and ``want`` have the shape (rows, blocks, columns).

    ``sums`` are over each block; ``beside`` are those over the columns that are too few for a block.
    """

    got: Array
    want: Array
    sums: Sums
    beside: Sums

    @classmethod
    def of(cls, got: Array, want: Array, size: int) -> "Rows":
        """Cut rows into blocks of a size."""
        got, want = got.reshape(len(got), -1), want.reshape(len(want), -1)
        end = want.shape[-1] // size * size
        blocks = tuple(x[:, :end].reshape(len(x), -1, size) for x in (got, want))
        beside = Sums.of(got[:, end:], want[:, end:])
        return cls(got=blocks[0], want=blocks[1], sums=Sums.of(*blocks), beside=beside)

    def sum(self, what: str) -> float:
        """Return one of the sums over all weights."""
        return float(sum(getattr(sums, what).sum(dtype=np.float64) for sums in (self.sums, self.beside)))


def ratio(values: Array, of: Array, *, empty: float) -> Array:
    """Divide by what is positive; where it is not, the ratio is said by ``empty``."""
    return np.divide(values, of, out=np.full_like(values, empty), where=~(of <= 0))
