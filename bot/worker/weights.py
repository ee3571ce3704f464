"""Whether the weights inside an artifact are the source's: every tensor, part by part. Needs numpy alone.

Distances on a text can miss a fault in a part of the weights that the text hardly uses: one row of the embedding, one
scale of a quantized matrix. This does not.

However a quantizer chooses its steps (by the largest weight, by a search, by what a text makes of each weight), most
of them then give each weight the nearest of the levels that its block has. So of the levels that occur in a block, none
may be nearer to a weight than its own. That holds for weights beyond the last level, and for blocks that a search has
found unimportant, however far off they are; and it does not hold for a scale that is off by a twentieth.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bot.worker import levels
from bot.worker.block_sums import Rows
from bot.worker.rounding import Rounding
from bot.worker.tensors import Tensors

Array = Any  # numpy is not installed where mypy runs

_PART = 32  # neighbouring weights of a row, which no format gives less than one scale
_SLOPE = (0.5, 1.5)  # of a row's stored weights against the original's; 1 is equal, and doubled scales are 2
_ERROR = 1.0  # of the energy of a row; rounding a weight to nothing costs all of it, and other weights twice that
_ALIKE = 0.4  # a part's correlation with the original's: other weights have 0 ± 0.18, and 2 bits 0.5 at the least
_LARGER = 4.0  # times the source's: what does not count may come out at three times its size
_NEIGHBOURS = 8  # parts that may share a step: the super-blocks of k-quants have 256 columns
_FAINT = 0.1  # of the energy of its neighbours: of a fainter part, their step leaves too little to say
_NOTHING = 1e-4  # of the energy of all parts: scales in 16 bits may not reach as low
_OUTLIER = 14  # times a part's largest weight: 4 bits that span a row with such a weight make nothing of the part
_COARSE = 3  # ... and 2 bits
_VECTOR_ERROR = 0.02  # norms and biases are stored in 16 or 32 bits
_AT_ONCE = 1 << 22  # weights compared at once: 16 MiB of each array
TIED_OUTPUT = "lm_head.weight"  #: what an output matrix is called that was solved beside an embedding that was not
_NOT_WEIGHTS = ("rotary_emb.inv_freq",)  # computed, and in some checkpoints all the same


@dataclass(frozen=True, kw_only=True)
class ArtifactWeight:
    """Weights as the artifact's runtime computes with them.

    They are float32 of the shape ``shape``, and hold the tensors ``sources`` of the checkpoint, one after the other
    along the first axis. ``parts`` yields some entries of that axis after the others, from the first one on each time
    that it is called: an embedding of 200,064 tokens takes 2.5 GB when it is whole. The next part may come in the
    memory of the one before it: new memory for each takes the system as long as unpacking does.

    ``nearest`` is how many neighbours in a row share their levels at least (32, or a part of that), where each weight
    has the nearest of them. It is 0 where a quantizer does otherwise: one that makes up for the errors of some weights
    with others, or that has a table of patterns. ``scales`` is the relative error with which scales and offsets are
    stored: that of float16, if nothing else is said.

    ``slope`` is how small and how large a whole row may be, over the source's, where its weights are not ``nearest``:
    levels that are finer than the default expects say more.

    ``rounding`` is what the runtime does to the states that a matrix is multiplied with, None where it takes them as
    they are. ``output`` says of the embedding that this is the output matrix tied to it, which is stored once more.
    """

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[Array]]
    nearest: int = 0
    scales: float = 2**-11
    slope: tuple[float, float] = _SLOPE
    rounding: Rounding | None = None
    output: bool = False

    @classmethod
    def whole(cls, source: str, values: Array, nearest: int = 0, rounding: Rounding | None = None) -> "ArtifactWeight":
        """Return a tensor that is small enough to be held."""
        return cls(sources=(source,), shape=values.shape, parts=lambda: (values,), nearest=nearest, rounding=rounding)


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How near the stored weights are: ``tensors`` compared, the largest relative error and what it is of."""

    tensors: int
    largest_error: float
    largest_error_in: str


class UnfaithfulError(ValueError):
    """Stored weights that are not the source's; the message names the tensor."""


Taker = Callable[[ArtifactWeight, str, int, Array], None]  #: gets float32 rows of a source's tensor, from which row on


def compare(
    stored: Iterable[ArtifactWeight],
    source: Tensors,
    *,
    tied: bool,
    take: Taker | None = None,
    solved: Mapping[str, str] = MappingProxyType({}),
) -> Fidelity:
    """Hold every stored tensor against the source's. Raises UnfaithfulError for the first that is another.

    Those that were ``solved`` are held against that first, exactly (see calibrated.py): their levels say nothing.
    The relative error of a tensor is the root of the mean square of its errors over that of its values. ``tied`` says
    that the output matrix is the embedding, so that a checkpoint may hold it without any artifact storing it. ``take``
    gets what is read, too.
    """
    missing = {n for n in source.names() if not n.endswith(_NOT_WEIGHTS)}
    worst, worst_name, count = 0.0, "", 0
    for group in stored:
        for name, error in _errors(group, source, take, solved):
            if error > worst:
                worst, worst_name = error, name
            missing.discard(name)
            count += 1
    if tied:
        missing.discard(TIED_OUTPUT)
    if missing:
        raise UnfaithfulError(f"{min(missing)} of the source is not in the artifact")
    return Fidelity(tensors=count, largest_error=worst, largest_error_in=worst_name)


def _errors(
    group: ArtifactWeight, source: Tensors, take: Taker | None, solved: Mapping[str, str]
) -> Iterator[tuple[str, float]]:
    """Yield each tensor of a group with its relative error."""
    energy = errors = 0.0
    values = hashlib.sha256()
    room: Array = np.empty(0, dtype=np.float32)
    for name, first, got in pieces(group, source):
        if take is not None:
            take(group, name, first, got)
        shape = source.shape(name)
        room = room if room.size >= got.size else np.empty(got.size, dtype=np.float32)
        want = source.read(name, first, first + len(got), room)
        here = Rows.of(got, want, group.nearest or _PART)
        energy, errors = energy + here.sum("energy"), errors + here.sum("error")
        wanted = solved.get(TIED_OUTPUT if group.output and TIED_OUTPUT in solved else name)
        nearest = group.nearest > 0 and wanted is None
        if wanted is not None:
            values.update(one_zero(got))
        if len(shape) > 1:
            _check_parts(name, first, here, nearest=nearest)
            if nearest:
                _check_levels(name, first, here, group)
            else:
                _check_rows(name, first, here, group)
        if first + len(got) == shape[0]:
            error = float(np.sqrt(errors / (energy or 1.0)))
            if len(shape) == 1 and not error <= _VECTOR_ERROR:
                raise UnfaithfulError(f"{name} is {error:.2g} of its size away from the source's")
            if wanted is not None and values.hexdigest() != wanted:
                raise UnfaithfulError(f"{name} is not what it was rounded to when it was built")
            yield name, error
            energy = errors = 0.0
            values = hashlib.sha256()


def one_zero(values: Array) -> Array:
    """Return values whose bytes tell what they are: of which sign a zero is depends on how it comes about."""
    return np.ascontiguousarray(values) + np.float32(0)


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


def pieces(group: ArtifactWeight, source: Tensors) -> Iterator[tuple[str, int, Array]]:
    """Yield the rows of a group, a few at once: the tensor they are of, the number of the first of them, and they.

    Of the source only names and shapes are read. Raises UnfaithfulError where the group has others.
    """
    _check_shape(group, source)
    rows = ((name, source.shape(name)[0]) for name in group.sources)
    name, left = next(rows)
    step = rows_at_once(math.prod(group.shape[1:]))
    first = 0
    for part in group.parts():
        start = 0
        while start < len(part):
            if first == left:
                (name, left), first = next(rows), 0
            stop = min(start + step, start + left - first, len(part))
            yield name, first, np.asarray(part[start:stop], dtype=np.float32)
            first, start = first + stop - start, stop


def _check_parts(name: str, first: int, rows: Rows, *, nearest: bool) -> None:
    """Compare each part, but for those that rounding may have left little of.

    What a search finds unimportant may come out at a fraction of its size or at a multiple, but it stays alike. Where
    weights have the ``nearest`` level, their levels tell more than that, and a part must but not be nothing.
    """
    size = rows.want.shape[-1]
    sums = rows.sums.joined(_PART // size)
    if not sums.energy.size:
        return
    slope, error = sums.slope, sums.relative_error
    right = slope > 0
    if not nearest:
        right &= (sums.likeness >= _ALIKE) & (slope <= _LARGER)
    wrong = ~np.isfinite(error)
    if not right.all():
        at = np.flatnonzero(~right.all(axis=-1))  # of other rows it does not matter how much they tell
        wrong[at] |= _telling(sums.energy, rows, at, _COARSE if nearest else _OUTLIER) & ~right[at]
    if wrong.any():
        row, part = (int(i[0]) for i in np.nonzero(wrong))
        raise UnfaithfulError(f"{name}: {_where(first + row, part, _PART)} are {_how(slope, error, (row, part))}")


def _check_rows(name: str, first: int, here: Rows, group: ArtifactWeight) -> None:
    """Compare whole rows: where parts may come out larger or smaller, all of them together may not."""
    if not here.sums.energy.size:
        return
    rows = here.sums.joined(here.sums.energy.shape[-1])
    (least, most), slope, error = group.slope, rows.slope, rows.relative_error
    right = (slope >= least) & (slope <= most) & (error <= _ERROR)
    wrong = (rows.energy >= _NOTHING * rows.energy.mean()) & ~right
    if wrong.any():
        row = int(np.nonzero(wrong)[0][0])
        raise UnfaithfulError(f"{name}: row {first + row} is {_how(slope, error, (row, 0))}")


def _how(slope: Array, error: Array, at: tuple[int, int]) -> str:
    return f"{slope[at]:.3g} times the source's, and {np.sqrt(error[at]):.2g} of its size away"


def _telling(energy: Array, rows: Rows, at: Array, outlier: float) -> Array:
    """Say which parts are large enough, beside those that may share their step, for rounding to leave something.

    ``energy`` is that of the parts of all rows. Told is of the rows ``at``, numbers of some.
    """
    least, energy = _NOTHING * energy.mean(), energy[at]
    most = np.abs(rows.want[at]).max(axis=-1)
    parts = most[:, : energy.shape[-1] * _PART // rows.want.shape[-1]].reshape(*energy.shape, -1).max(axis=-1)
    telling = (energy >= _FAINT * _around(energy)) & (energy >= least)
    return telling & (parts * outlier >= most.max(axis=-1, keepdims=True))


def _where(row: int, block: int, size: int) -> str:
    return f"row {row}, columns {block * size} to {(block + 1) * size - 1}"


def _check_levels(name: str, first: int, rows: Rows, group: ArtifactWeight) -> None:
    """Check that no weight is nearer to another level of its block than to its own."""
    wrong = levels.first_wrong(rows, group.scales)
    if wrong is not None:
        row, block = wrong
        how = "nearer to other levels than to theirs"
        raise UnfaithfulError(f"{name}: {_where(first + row, block, group.nearest)} are {how}")


def rows_at_once(columns: int) -> int:
    """Return how many rows of so many weights a part of Stored has best: no format unpacks more together."""
    return max(_AT_ONCE // columns, 1)


def _around(energy: Array) -> Array:
    """Return the mean energy of the neighbourhood that each part of a row is in."""
    starts = np.arange(0, energy.shape[-1], _NEIGHBOURS)
    sizes = np.diff([*starts, energy.shape[-1]])
    return np.repeat(np.add.reduceat(energy, starts, axis=-1) / sizes, sizes, axis=-1)
