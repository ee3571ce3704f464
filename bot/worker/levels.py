"""Whether each weight has the nearest of the levels that its block has. Needs numpy alone."""

from typing import Any

import numpy as np

from bot.worker.block_sums import Rows, Sums, ratio

Array = Any  # numpy is not installed where mypy runs

_SCALES = (8, 32)  # errors of scales, as parts of a block's largest weight and of a gap: how far levels may be off
_BEST = 0.02  # how far off its best scale a block is of which the levels are looked at: off by 5 %, 96 in 100 of 4 bits
_SPREAD = 3.0  # ... or so many times the median of that, where blocks have fewer levels
_MOVED = 2.0  # standard errors that the mean of a block's errors is from zero: a minimum of k-quants is off by 3
_FAR = 4.0  # times the median error of blocks: the levels of those with more are looked at, too
_AT_ONCE = 1 << 16  # weights whose levels are looked at together: a core's own cache holds what comes of them


def first_wrong(rows: Rows, scales: float) -> tuple[int, int] | None:
    """Return the row and the block of the first weight that is nearer to another level of its block than to its own.

    ``scales`` is the relative error with which scales and offsets are stored. Looked at are blocks that another scale
    or another offset would serve better, or that are further off than most: of 4 bits, one in five or fewer of those
    that are right.
    """
    doubtful = np.argwhere(_doubtful(rows.sums))
    step = max(_AT_ONCE // rows.want.shape[-1], 1)
    for first in range(0, len(doubtful), step):
        at = doubtful[first : first + step]
        wrong = ~_nearest(rows.got[*at.T], rows.want[*at.T], scales)
        if wrong.any():
            row, block = at[wrong][0].tolist()
            return row, block
    return None


def _doubtful(sums: Sums) -> Array:
    if not sums.energy.size:
        return np.zeros_like(sums.energy, dtype=bool)
    stored = sums.error + 2 * sums.product - sums.energy  # the energy of the stored weights
    best = np.abs(ratio(sums.product, stored, empty=1.0) - 1)
    error = sums.relative_error
    centred = np.square(sums.moved) <= _MOVED**2 * sums.error
    return ~((best <= max(_BEST, _SPREAD * _median(best))) & (error <= _FAR * _median(error)) & centred)


def _median(values: Array) -> float:
    """Return the same median as numpy's own function, which takes ten times as long: it looks for three numbers."""
    middle = values.size // 2
    ordered = np.partition(values, middle, axis=None)
    upper = ordered[middle]
    return float(upper if values.size % 2 else (ordered[:middle].max() + upper) / 2)


def _nearest(got: Array, want: Array, scales: float) -> Array:
    """Say of which blocks each weight has the nearest of the levels that occur, as far as ``scales`` are exact.

    Both are of shape (blocks, weights).
    """
    want, got = _sorted_by_first(want, got)
    middle, gap = (got[:, 1:] + got[:, :-1]) / 2, np.diff(got, axis=-1)
    side = np.sign(gap)  # -1 where the levels are in another order than the weights
    past = np.maximum(side * (want[:, :-1] - middle), side * (middle - want[:, 1:]))
    largest = np.maximum(want[:, -1:], -want[:, :1])
    near: Array = (past <= scales * (_SCALES[0] * largest + _SCALES[1] * np.abs(gap))).all(axis=-1)
    return near


def _sorted_by_first(keys: Array, values: Array) -> tuple[Array, Array]:
    """Sort the rows of two arrays of float32 by the first: as whole numbers that hold both, a third of the time.

    Bits of positive floats are in the order of the floats; those of negative ones are turned round.
    """
    pairs = np.empty((*keys.shape, 2), dtype="<i4")
    low, high = pairs[..., 0], pairs[..., 1]
    bits = keys.view("<i4")
    np.bitwise_xor(bits, (bits >> 31) & 0x7FFFFFFF, out=high)
    low[...] = values.view("<i4")
    pairs.view("<i8").sort(axis=-2)
    return np.bitwise_xor(high, (high >> 31) & 0x7FFFFFFF).view("<f4"), np.ascontiguousarray(low).view("<f4")
