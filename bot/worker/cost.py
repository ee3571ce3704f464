"""The cost of rounding: a file's distance beside that of plain rounding, position by position. Needs numpy alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from bot.records.evidence import RoundingCost
from bot.worker.distance import Positions

Array = Any  # numpy is not installed where mypy runs

_BLOCK = 14  # neighbouring positions, which share their context: they count as one for errors


def cost_of_rounding(
    measured: Sequence[Positions], reference: Mapping[str, Json], precision: str
) -> RoundingCost | None:
    """Return a file's cost beside that of plain rounding to its precision, at the positions that a reference has.

    Of a reference that is cut down, those of the windows that are left count; of one without any, return None.
    """
    recommended = {p.window: p.kl for p in measured if not p.setting}
    plain = dict(zip(reference["plain_windows"], reference["plain"][precision], strict=True))
    there = [window for window in plain if window in recommended]
    if not there:
        return None
    pairs = [np.stack([recommended[w][: len(plain[w])], plain[w]]) for w in there]
    blocks = [part.sum(axis=1) for pair in pairs for part in np.array_split(pair, max(pair.shape[1] // _BLOCK, 1), 1)]
    tokens = sum(pair.shape[1] for pair in pairs)
    sums = np.array(blocks)  # of blocks, of the file and of plain rounding
    cost, plain_cost = sums.sum(axis=0) / tokens
    error, plain_error = (_error(sums[:, i] - sums[:, i].mean(), tokens) for i in (0, 1))
    ratio = _error(sums[:, 0] - cost / plain_cost * sums[:, 1], tokens) / plain_cost if plain_cost > 0 else 0.0
    return RoundingCost(
        tokens=tokens,
        mean_kl=float(cost),
        error=error,
        plain_kl=float(plain_cost),
        plain_error=plain_error,
        ratio_error=float(ratio),
    )


def _error(residuals: Array, tokens: int) -> float:
    """Return the standard error of a mean over tokens, from what the sums of blocks differ by."""
    count = len(residuals)
    return float(np.sqrt((residuals**2).sum() * count / max(count - 1, 1)) / tokens)
