"""Least squares without negative coefficients: a sum of costs, each of which is nothing or more."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

Row = Sequence[float]


def fit(rows: Sequence[Row], values: Sequence[float], *, floor: float) -> tuple[float, ...]:
    """Return the coefficients, one a column and none below 0, with the least sum of squared relative errors.

    An error is relative to its value, or to ``floor`` where the value is less.
    """
    scale = np.maximum(np.abs(np.asarray(values, dtype=float)), floor)
    table = np.asarray(rows, dtype=float) / scale[:, None]
    norms = np.linalg.norm(table, axis=0)  # columns are bytes and counts: without it they differ by factors of 1e9
    norms[norms == 0] = 1.0
    found, _ = nnls(table / norms, np.asarray(values, dtype=float) / scale)
    return tuple(float(c) for c in found / norms)


def value(coefficients: Sequence[float], row: Row) -> float:
    """Return what a fit says of a row."""
    return sum(c * x for c, x in zip(coefficients, row, strict=True))
