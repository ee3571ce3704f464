"""Whether what the solver gave is better than plain rounding, found in another way than the solver finds it.

A file is held against the digest of what the solver gave, and a fault of the solver would be in both. What it promises
is simple: in the weighted error no row is worse than rounded plainly. So of some rows of each part of a matrix that
error is computed from its definition, by the moments as they were collected, in float64. Needs numpy alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.worker.moments import Moments, blocks
from bot.worker.solver import DAMPING

Array = Any  # numpy is not installed where mypy runs

_ROWS = 4  # of each part
_MORE = 1.01  # times the error of plain rounding: the solver compares in float32
_NOTHING = 1e-12  # of the energy of a row: of weights that are levels themselves little but that is left


class WorseThanPlainError(ValueError):
    """The solver gave something worse than plain rounding; the message names the matrix."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Errors of some rows, of shape (rows, columns): ``solved``, and rounded ``plain``. ``energy`` is of each row."""

    solved: Array
    plain: Array
    energy: Array


def sample(rows: Array, values: Array, plain: Callable[[Array], Array]) -> Sample:
    """Keep of some rows, given in float32, how far their rounded ``values`` are off, and those of plain rounding.

    ``plain`` returns the latter of the rows with some numbers.
    """
    at = np.unique(np.linspace(0, len(rows) - 1, _ROWS).astype(int))
    want = rows[at]
    return Sample(solved=values[at] - want, plain=plain(at) - want, energy=np.square(want).sum(axis=-1))


def require_better(matrix: str, samples: Sequence[Sample], moments: Moments) -> None:
    """Raise WorseThanPlainError where a row of the samples is worse than rounded plainly.

    Errors are weighted by what the matrix is multiplied with; where that is not known, all inputs count the same.
    """
    solved, plain, energy = (np.concatenate([getattr(s, n) for s in samples]) for n in ("solved", "plain", "energy"))
    ours, allowed = weighted(matrix, np.concatenate([solved, plain]), moments).reshape(2, -1)
    wrong = ~(ours <= _MORE * allowed + _NOTHING * energy)
    if wrong.any():
        worst = float(np.max(ours[wrong] / np.maximum(allowed[wrong], _NOTHING * energy[wrong])))
        raise WorseThanPlainError(
            f"{matrix} as it was solved is {worst:.3g} times as far off as rounded plainly, which is a fault of "
            'phi-bot: please report it, and build it with build.quality = "plain"'
        )


def weighted(matrix: str, errors: Array, moments: Moments) -> Array:
    """Return the weighted error of each row, by the moments from their definition, damped as the solver has them."""
    total = np.zeros(len(errors))
    for block, known in zip(blocks(errors.shape[1]), _damped(matrix, errors.shape[1], moments), strict=True):
        off = errors[:, block].astype(np.float64)
        total += ((off @ known) * off).sum(axis=-1)
    return total


def _damped(matrix: str, columns: int, moments: Moments) -> Iterator[Array]:
    """Yield the moments of each block of columns as the solver weighs by them: over their mean, and damped."""
    if matrix not in moments:
        yield from (np.eye(b.stop - b.start) for b in blocks(columns))
        return
    for block in moments.blocks_of(matrix):
        known = block.astype(np.float64)
        mean = known.diagonal().mean()
        if mean <= 0:
            yield np.eye(len(known))
            continue
        known /= mean
        known.flat[:: len(known) + 1] += DAMPING
        yield known
