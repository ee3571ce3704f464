"""Whether the weights inside an artifact are the source's: every tensor, part by part. Needs numpy alone.

Distances on a text can miss a fault in a part of the weights that the text hardly uses: one row of the embedding, one
scale of a quantized matrix. This does not.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.worker.tensors import Tensors

Array = Any  # numpy is not installed where mypy runs

_PART = 32  # neighbouring weights of a row, which no format gives less than one scale
_SLOPE = (0.5, 1.5)  # of a part's stored weights against the original's; 1 is equal, and a doubled scale is 2
_ERROR = 1.0  # of the energy of a part; rounding a weight to nothing costs all of it, and other weights twice that
_NEIGHBOURS = 8  # parts that may share a step: the super-blocks of k-quants have 256 columns
_FAINT = 0.1  # of the energy of its neighbours: of a fainter part, their step leaves too little to say
_NOTHING = 1e-4  # of the energy of all parts: scales in 16 bits may not reach as low
_OUTLIER = 14  # times a part's largest weight: 4 bits that span a row with such a weight make nothing of the part
_VECTOR_ERROR = 0.02  # norms and biases are stored in 16 or 32 bits
_AT_ONCE = 1 << 22  # weights compared at once: 16 MiB of each array
_NOT_WEIGHTS = ("rotary_emb.inv_freq",)  # computed, and in some checkpoints all the same


@dataclass(frozen=True, kw_only=True)
class ArtifactWeight:
    """Weights as the artifact's runtime computes with them.

    They are float32 of the shape ``shape``, and hold the tensors ``sources`` of the checkpoint, one after the other
    along the first axis. ``parts`` are some entries of that axis after the others: an embedding of 200,064 tokens takes
    2.5 GB when it is whole.
    """

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    parts: Iterable[Array]

    @classmethod
    def whole(cls, source: str, values: Array) -> "ArtifactWeight":
        """Return a tensor that is small enough to be held."""
        return cls(sources=(source,), shape=values.shape, parts=(values,))


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How near the stored weights are: ``tensors`` compared, the largest relative error and what it is of."""

    tensors: int
    largest_error: float
    largest_error_in: str


class UnfaithfulError(ValueError):
    """Stored weights that are not the source's; the message names the tensor."""


def compare(stored: Iterable[ArtifactWeight], source: Tensors, *, tied: bool) -> Fidelity:
    """Hold every stored tensor against the source's. Raises UnfaithfulError for the first that is another.

    The relative error of a tensor is the root of the mean square of its errors over that of its values. ``tied`` says
    that the output matrix is the embedding, so that a checkpoint may hold it without any artifact storing it.
    """
    missing = {n for n in source.names() if not n.endswith(_NOT_WEIGHTS)}
    worst, worst_name, count = 0.0, "", 0
    for group in stored:
        for name, error in _errors(group, source):
            if error > worst:
                worst, worst_name = error, name
            missing.discard(name)
            count += 1
    if tied:
        missing.discard("lm_head.weight")
    if missing:
        raise UnfaithfulError(f"{min(missing)} of the source is not in the artifact")
    return Fidelity(tensors=count, largest_error=worst, largest_error_in=worst_name)


def _errors(group: ArtifactWeight, source: Tensors) -> Iterator[tuple[str, float]]:
    """Yield each tensor of a group with its relative error."""
    _check_shape(group, source)
    energy = errors = 0.0
    for name, first, got in _pieces(group, source):
        shape = source.shape(name)
        want = source.read(name, first, first + len(got))
        energy += float(np.square(want, dtype=np.float64).sum())
        errors += float(np.square(got - want, dtype=np.float64).sum())
        if len(shape) > 1:
            _parts(name, got, want, first)
        if first + len(got) == shape[0]:
            error = float(np.sqrt(errors / (energy or 1.0)))
            if len(shape) == 1 and not error <= _VECTOR_ERROR:
                raise UnfaithfulError(f"{name} is {error:.2g} of its size away from the source's")
            yield name, error
            energy = errors = 0.0


def _check_shape(group: ArtifactWeight, source: Tensors) -> None:
    rows, *columns = group.shape
    for name in group.sources:
        if name not in source.names():
            raise UnfaithfulError(f"the artifact has a tensor {name} that the source does not have")
        shape = source.shape(name)
        last = name == group.sources[-1]
        here = (rows if last else min(rows, shape[0]), *columns)
        if here != shape:
            raise UnfaithfulError(f"{name} has the shape {list(here)}, in the source {list(shape)}")
        rows -= shape[0]


def _pieces(group: ArtifactWeight, source: Tensors) -> Iterator[tuple[str, int, Array]]:
    """Yield the rows of a group, a few at once: the tensor they are of, the number of the first of them, and they."""
    rows = ((name, source.shape(name)[0]) for name in group.sources)
    name, left = next(rows)
    step = rows_at_once(math.prod(group.shape[1:]))
    first = 0
    for part in group.parts:
        start = 0
        while start < len(part):
            if first == left:
                (name, left), first = next(rows), 0
            stop = min(start + step, start + left - first, len(part))
            yield name, first, np.asarray(part[start:stop], dtype=np.float32)
            first, start = first + stop - start, stop


def _parts(name: str, got: Array, want: Array, first: int) -> None:
    """Compare each part, but for those that rounding may have left little of.

    A part's stored weights are regressed on the original's, which tells a scale that is another. What the slope does
    not tell, the error does: where a scale has an offset, doubling it moves all weights to one side.
    """
    rows = want.reshape(len(want), -1)
    columns = rows.shape[-1] // _PART * _PART
    if not columns:
        return
    want = rows[:, :columns].reshape(len(rows), -1, _PART)
    got = got.reshape(rows.shape)[:, :columns].reshape(want.shape)
    energy = np.square(want).sum(axis=-1)
    slope = _ratio((got * want).sum(axis=-1), energy, empty=1.0)
    error = _ratio(np.square(got - want).sum(axis=-1), energy, empty=0.0)
    telling = (energy >= _FAINT * _around(energy)) & (energy >= _NOTHING * energy.mean())
    telling &= np.abs(want).max(axis=-1) * _OUTLIER >= np.abs(rows).max(axis=-1, keepdims=True)
    wrong = telling & ~((slope >= _SLOPE[0]) & (slope <= _SLOPE[1]) & (error <= _ERROR))
    if wrong.any():
        row, part = (int(i[0]) for i in np.nonzero(wrong))
        where = f"row {first + row}, columns {part * _PART} to {(part + 1) * _PART - 1}"
        how = f"{slope[row, part]:.2g} times the source's, and {np.sqrt(error[row, part]):.2g} of their size away"
        raise UnfaithfulError(f"{name}: {where} are {how}")


def rows_at_once(columns: int) -> int:
    """Return how many rows of so many weights a part of Stored has best: no format unpacks more together."""
    return max(_AT_ONCE // columns, 1)


def _ratio(values: Array, of: Array, *, empty: float) -> Array:
    return np.divide(values, of, out=np.full_like(values, empty), where=of > 0)


def _around(energy: Array) -> Array:
    """Return the mean energy of the neighbourhood that each part of a row is in."""
    starts = np.arange(0, energy.shape[-1], _NEIGHBOURS)
    sizes = np.diff([*starts, energy.shape[-1]])
    return np.repeat(np.add.reduceat(energy, starts, axis=-1) / sizes, sizes, axis=-1)
