"""Least squares without negative coefficients: a sum of costs, each of which is nothing or more."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

Row = Sequence[float]

# What a coefficient costs, beside errors that cost one. Too little to move a fit, and where several fits are equally
# good it is the smallest: without it, rounding in this or that processor would choose.
_COST = 1e-8


def fit(rows: Sequence[Row], values: Sequence[float], *, floor: float) -> tuple[float, ...]:
    """Return the coefficients, one a column and none below 0, with the least sum of squared relative errors.

    An error is relative to its value, or to ``floor`` where the value is less. Where columns cannot be told apart, they
    share what they are about.
    """
    wanted = np.asarray(values, dtype=float)
    scale = np.maximum(np.abs(wanted), floor)
    table = np.asarray(rows, dtype=float) / scale[:, None]
    norms = np.linalg.norm(table, axis=0)  # columns are bytes and counts: without it they differ by factors of 1e9
    norms[norms == 0] = 1.0
    costs = np.sqrt(_COST) * np.eye(len(norms))
    aims = np.concatenate([wanted / scale, np.zeros(len(norms))])
    found, _ = nnls(np.vstack([table / norms, costs]), aims)
    return tuple(float(c) for c in found / norms)


def value(coefficients: Sequence[float], row: Row) -> float:
    """Return what a fit says of a row."""
    return sum(c * x for c, x in zip(coefficients, row, strict=True))
