"""Rounding a matrix for what it is multiplied with: the shared solver of all formats. Needs numpy alone.

A matrix W is rounded to Q where inputs X are known by their second moments H = XᵀX. What the rounding does to products
is the trace of (W - Q) H (W - Q)ᵀ: the *weighted error*. Two published methods make it small. Scales and offsets are
searched for each group of columns, with errors weighted by the diagonal of H. Then columns are rounded one after the
other, each to make up for the errors of those before it (GPTQ, arXiv 2210.17323), with the grid left as it is and
columns of large moments first.

With H = V Vᵀ and V upper triangular, the weighted error of a row is the sum over its columns k of V[k,k]² (t - q)².
Here q is the rounded weight, and t is the weight and what the errors of the columns before k leave to be made up for.
So each column in its turn takes the level that is nearest to t. This gives what GPTQ's updates by the inverse of H do,
without an inverse (the equivalence is shown in arXiv 2507.18553).

A matrix that is wide is solved in blocks of columns, as its moments come (see moments.py). All rows are independent of
each other, and sums over columns are taken over so few at a time that no BLAS divides them among threads: so the number
of threads changes no byte.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from bot.worker.packed import few_rows

Array = Any  # numpy is not installed where mypy runs
Run = Callable[[Callable[[Array], "Solved"], Sequence[Array]], Iterator["Solved"]]  #: ``map``, or that of threads

DAMPING = 0.01  # of the mean of the diagonal, which is added to it: moments of few tokens have no inverse
_STEP = 64  # columns after which errors are handed on by one product, and the length of each sum
_SHARES = (1.0, 1.05, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65)  # of a group's range that its levels span
_SMALL = 1e-35  # a scale of which there is no inverse in float32
PART = 1 << 20  #: weights solved together: 4 MiB of each array


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The levels that a format gives to each ``group`` of columns: scale times a code of so many ``bits``, plus offset.

    Offsets are ``free``, or minus the scale times a whole ``zero`` point that is a code itself, or ``middle``: minus
    the scale times half the number of codes. ``stored`` rounds scales, and free offsets, to what the format can hold.
    """

    bits: int
    group: int
    offsets: Literal["free", "zero", "middle"]
    stored: Callable[[Array], Array]

    @property
    def last(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A rounded matrix: ``codes`` (rows, columns) in bytes, ``scales`` and ``offsets`` (rows, groups) in float32."""

    codes: Array
    scales: Array
    offsets: Array

    @property
    def values(self) -> Array:
        """The rounded weights in float32, as runtimes compute them: a product, and then a sum."""
        rows, groups = self.scales.shape
        values = self.codes.reshape(rows, groups, -1).astype(np.float32)
        values *= self.scales[..., None]
        values += self.offsets[..., None]
        return values.reshape(rows, -1)

    @property
    def zero_points(self) -> Array:
        """The code of each group that means zero, in bytes, where a grid's offsets are such."""
        zeros = np.divide(-self.offsets, self.scales, out=np.zeros_like(self.scales), where=self.scales != 0)
        return np.rint(zeros).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What is known of the inputs of some neighbouring columns.

    ``weights`` is the diagonal of their moments, damped. ``order`` is the order in which they are rounded. In that
    order ``shares[i, k]`` says how much of the error of column i column k makes up for, and ``costs`` are V[k,k]².
    There are no shares where nothing is known.
    """

    weights: Array
    order: Array
    shares: Array
    costs: Array


def factor(moments: Array) -> Factor:
    """Return the factor of a square block of second moments; any multiple of them gives the same.

    Raises ValueError for moments that are not finite.
    """
    moments = np.asarray(moments, dtype=np.float64)
    diagonal = moments.diagonal()
    mean = diagonal.mean()
    if not np.isfinite(moments).all():
        raise ValueError("the second moments of the inputs are not finite")
    if mean <= 0:  # inputs that are always zero: any rounding does
        return unknown(len(moments))
    order = np.argsort(-diagonal, kind="stable")
    backwards = order[::-1]
    damped = moments[np.ix_(backwards, backwards)] / mean
    damped.flat[:: len(damped) + 1] += DAMPING
    upper = _lower(damped)[::-1, ::-1]
    of_column = upper.diagonal()
    return Factor(
        weights=(diagonal / mean + DAMPING).astype(np.float32),
        order=order,
        shares=(np.triu(upper, 1) / of_column).astype(np.float32),
        costs=np.square(of_column).astype(np.float32),
    )


def unknown(columns: int) -> Factor:
    """Return the factor of columns of which no input is known: all errors count the same, and none is made up for."""
    ones: Array = np.ones(columns, dtype=np.float32)
    return Factor(weights=ones, order=np.arange(columns), shares=np.empty((0, 0), dtype=np.float32), costs=ones)


def solve(rows: Array, factors: Sequence[Factor], grid: Grid, run: Run = map) -> Solved:
    """Round a matrix of float32, of shape (rows, columns): in the weighted error no row is worse than rounded plainly.

    ``factors`` are those of its columns, block by block; each is of whole groups. Plain rounding gives each weight the
    nearest of the levels that span its group. ``run`` works on some rows after the others, and may do so in threads.
    """
    step = max(PART // rows.shape[1], 1)
    parts = [rows[first : first + step] for first in range(0, len(rows), step)]
    return _joined(list(run(lambda part: _solved(part, factors, grid), parts)), axis=0)


def improve(rows: Array, given: Solved, factors: Sequence[Factor], grid: Grid) -> Solved:
    """Round rows on levels that are given: in the weighted error no row is worse than with the codes that are given.

    The levels of a format's own search are taken where these are nested, so that none of them is free.
    """
    blocks = []
    for known, at, block in _by_block(rows, factors):
        groups = slice(at.start // grid.group, at.stop // grid.group)
        part = Solved(codes=given.codes[:, at], scales=given.scales[:, groups], offsets=given.offsets[:, groups])
        blocks.append(part if not known.shares.size else _improved(block, part, known, grid))
    return _joined(blocks, axis=1)


def _improved(block: Array, given: Solved, known: Factor, grid: Grid) -> Solved:
    codes, error = _compensated(block, given, known, grid)
    better = (error < _error(block - given.values, known))[:, None]
    return replace(given, codes=np.where(better, codes, given.codes))


def _solved(rows: Array, factors: Sequence[Factor], grid: Grid) -> Solved:
    return _joined([_better(block, known, grid) for known, _, block in _by_block(rows, factors)], axis=1)


def _by_block(rows: Array, factors: Sequence[Factor]) -> Iterator[tuple[Factor, slice, Array]]:
    """Yield each block of columns: what is known of them, where they are, and they, contiguous and in float32."""
    first = 0
    for known in factors:
        at = slice(first, first + len(known.order))
        yield known, at, np.ascontiguousarray(rows[:, at], dtype=np.float32)
        first = at.stop


def _joined(parts: Sequence[Solved], axis: int) -> Solved:
    if len(parts) == 1:
        return parts[0]
    return Solved(
        **{n: np.concatenate([getattr(p, n) for p in parts], axis=axis) for n in ("codes", "scales", "offsets")}
    )


def _better(block: Array, known: Factor, grid: Grid) -> Solved:
    """Return of each row what has the smaller weighted error: rounded with compensation, or plainly."""
    plain, searched = plainly(block, grid), _nearest(block, *search(block, known.weights, grid), grid)
    if not known.shares.size:
        codes, error = searched.codes, _error(block - searched.values, known)
    else:
        codes, error = _compensated(block, searched, known, grid)
    worse = ~(error <= _error(block - plain.values, known))[:, None]
    return Solved(
        codes=np.where(worse, plain.codes, codes),
        scales=np.where(worse, plain.scales, searched.scales),
        offsets=np.where(worse, plain.offsets, searched.offsets),
    )


# ---- compensation --------------------------------------------------------------------------------------------


def _compensated(block: Array, on: Solved, known: Factor, grid: Grid) -> tuple[Array, Array]:
    """Return codes on the levels of ``on``, and the weighted error of each row."""
    columns = np.ascontiguousarray(block.T[known.order])  # a column is contiguous
    group_of = known.order // grid.group
    scales, offsets = np.ascontiguousarray(on.scales.T), np.ascontiguousarray(on.offsets.T)
    steps = _inverse(scales)
    targets, codes = columns.copy(), np.empty(columns.shape, dtype=np.uint8)
    error: Array = np.zeros(len(block), dtype=np.float32)
    for first in range(0, len(columns), _STEP):
        end = min(first + _STEP, len(columns))
        errors: Array = np.empty((end - first, len(block)), dtype=np.float32)
        for k in range(first, end):
            group, target = group_of[k], targets[k]
            code = _codes(target, steps[group], offsets[group], grid)
            codes[k] = code
            code *= scales[group]
            code += offsets[group]
            np.subtract(columns[k], code, out=errors[k - first])
            error += known.costs[k] * np.square(target - code)
            if k + 1 < end:
                targets[k + 1 : end] += known.shares[k, k + 1 : end, None] * errors[k - first]
        targets[end:] += known.shares[first:end, end:].T @ errors
    found = np.empty_like(codes)
    found[known.order] = codes
    return np.ascontiguousarray(found.T), error


def _error(errors: Array, known: Factor) -> Array:
    """Return the weighted error of each row of W - Q."""
    columns = np.ascontiguousarray(errors.T[known.order])
    left = columns.copy()
    for first in range(0, len(known.shares), _STEP):
        some = slice(first, first + _STEP)
        left[first:] += known.shares[some, first:].T @ columns[some]
    return known.costs @ np.square(left)


def _lower(matrix: Array) -> Array:
    """Return the lower triangular Cholesky factor of a matrix, which is overwritten.

    LAPACK's own divides its sums among threads, each number of them in another way.
    """
    for first in range(0, len(matrix), _STEP):
        end = min(first + _STEP, len(matrix))
        panel = np.ascontiguousarray(matrix[first:, first:end].T)  # a column is contiguous
        for k in range(end - first):
            panel[k, k:] /= np.sqrt(panel[k, k])
            for other in range(k + 1, end - first):
                panel[other, other:] -= panel[k, other] * panel[k, other:]
        matrix[first:, first:end] = panel.T
        below = panel[:, end - first :]
        matrix[end:, end:] -= below.T @ below.copy()
    return np.tril(matrix)


# ---- scales and offsets --------------------------------------------------------------------------------------


def search(block: Array, weights: Array, grid: Grid) -> tuple[Array, Array]:
    """Return scales and offsets, of shape (rows, groups), whose levels have the smallest weighted errors found.

    ``weights`` say how much the square of an error counts in each column.
    """
    rows, columns = block.shape
    found = np.empty((2, rows, columns // grid.group), dtype=np.float32)
    for few in few_rows(rows, columns):
        groups = block[few].reshape(-1, columns // grid.group, grid.group)
        tried = _Search(groups, weights.reshape(-1, grid.group), grid)
        for share in _SHARES:
            tried.spans(np.float32(share))
        found[:, few] = tried.scale[..., 0], tried.offset[..., 0]
    return found[0], found[1]


class _Search:
    """The best levels so far of some groups: arrays of shape (rows, groups, 1)."""

    def __init__(self, groups: Array, weights: Array, grid: Grid) -> None:
        self._groups, self._weights, self._grid = groups, weights, grid
        self._weighted = groups * weights
        self._least, self._most = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
        self._error = np.full_like(self._least, np.inf)
        self.scale, self.offset = np.zeros_like(self._least), np.zeros_like(self._least)

    def spans(self, share: Any) -> None:
        """Try levels that span this share of a group's range, and the best levels for the codes that come of these."""
        scale, zero = _levels(self._least * share, self._most * share, self._grid)
        if self._grid.offsets == "free":
            middle = (self._least + self._most) / 2
            codes = self._consider(scale, middle - scale * np.float32(self._grid.last / 2))
            self._consider(*self._line(codes))
            return
        for sign in (1, -1) if self._grid.offsets == "middle" else (1,):
            codes = self._consider(scale * sign, zero=zero) - zero
            fitted = self._sum(codes, self._weighted) * _inverse(self._sum(codes * codes, self._weights))
            self._consider(fitted, zero=zero)

    def _consider(self, scale: Array, offset: Array = None, zero: Array = None) -> Array:
        """Keep levels where they are better; return the codes that weights have on them."""
        scale = self._grid.stored(scale)
        offset = self._grid.stored(offset) if zero is None else -(scale * zero)
        codes = _codes(self._groups, _inverse(scale), offset, self._grid)
        off = codes * scale
        off += offset
        off -= self._groups
        error = self._sum(np.square(off, out=off), self._weights)
        better = error < self._error
        for kept, new in ((self._error, error), (self.scale, scale), (self.offset, offset)):
            np.copyto(kept, new, where=better)
        return codes

    def _line(self, codes: Array) -> tuple[Array, Array]:
        """Return scale and offset of the line through codes and weights by weighted least squares."""
        total = self._weights.sum(axis=-1)[:, None]
        mean = self._sum(codes, self._weights) / total
        middle = self._weighted.sum(axis=-1, keepdims=True) / total
        off = codes - mean
        scale = self._sum(off, self._weighted) * _inverse(self._sum(off * off, self._weights))
        return scale, middle - scale * mean

    @staticmethod
    def _sum(values: Array, weights: Array) -> Array:
        return np.einsum("...i,...i->...", values, np.broadcast_to(weights, values.shape))[..., None]


def plainly(block: Array, grid: Grid) -> Solved:
    """Return rows rounded plainly: to the nearest of the levels that span each group."""
    groups = block.reshape(len(block), -1, grid.group)
    least, most = groups.min(axis=-1), groups.max(axis=-1)
    scale, zero = _levels(least, most, grid)
    scale = grid.stored(scale)
    return _nearest(block, scale, grid.stored(least) if grid.offsets == "free" else -(scale * zero), grid)


def _levels(least: Array, most: Array, grid: Grid) -> tuple[Array, Array]:
    """Return the scale of levels that span a range, and their zero point, of no meaning where offsets are free."""
    if grid.offsets == "free":
        return (most - least) / np.float32(grid.last), np.zeros_like(least)
    if grid.offsets == "middle":
        half = np.float32((grid.last + 1) / 2)
        largest: Array = np.where(most > -least, most, least)
        return largest / -half, np.full_like(least, half)
    least, most = np.minimum(least, 0), np.maximum(most, 0)
    scale = (most - least) / np.float32(grid.last)
    return scale, np.clip(np.rint(-least * _inverse(scale)), 0, grid.last)


def _nearest(block: Array, scales: Array, offsets: Array, grid: Grid) -> Solved:
    groups = block.reshape(len(block), -1, grid.group)
    codes = _codes(groups, _inverse(scales)[..., None], offsets[..., None], grid)
    return Solved(codes=codes.reshape(block.shape).astype(np.uint8), scales=scales, offsets=offsets)


def _codes(values: Array, steps: Array, offsets: Array, grid: Grid) -> Array:
    """Return the codes of the nearest levels, in float32; ``steps`` are one over the scales."""
    codes = values - offsets
    codes *= steps
    np.rint(codes, out=codes)
    return np.clip(codes, 0, grid.last, out=codes)


def _inverse(scales: Array) -> Array:
    """Return one over each number; of one that is too small for that, zero."""
    return np.divide(1, scales, out=np.zeros_like(scales), where=np.abs(scales) > _SMALL)
