"""Least squares without negative coefficients: a sum of costs, each of which is nothing or more."""

from collections.abc import Sequence
from itertools import combinations

Row = Sequence[float]


def fit(rows: Sequence[Row], values: Sequence[float], *, floor: float) -> tuple[float, ...]:
    """Return the coefficients, one a column and none below 0, with the least sum of squared relative errors.

    An error is relative to its value, or to ``floor`` where the value is less. Columns are few: every choice of those
    that count is tried, so the result is the least there is.
    """
    width = len(rows[0])
    scale = [max(abs(v), floor) for v in values]
    table = [[x / s for x in row] for row, s in zip(rows, scale, strict=True)]
    wanted = [v / s for v, s in zip(values, scale, strict=True)]
    best, least = (0.0,) * width, sum(w * w for w in wanted)
    for used in (c for n in range(1, width + 1) for c in combinations(range(width), n)):
        found = _solve([[row[i] for i in used] for row in table], wanted)
        if found is None or min(found) < 0:
            continue
        error = sum(
            (sum(row[i] * c for i, c in zip(used, found, strict=True)) - w) ** 2
            for row, w in zip(table, wanted, strict=True)
        )
        if error < least:
            by_column = dict(zip(used, found, strict=True))
            best, least = tuple(by_column.get(i, 0.0) for i in range(width)), error
    return best


def value(coefficients: Sequence[float], row: Row) -> float:
    """Return what a fit says of a row."""
    return sum(c * x for c, x in zip(coefficients, row, strict=True))


def _solve(rows: list[list[float]], wanted: Sequence[float]) -> list[float] | None:
    """Return the least squares of any sign, None where the columns do not tell the coefficients apart.

    The normal equations, in columns of length 1, by Gauss-Jordan elimination.
    """
    width = len(rows[0])
    norms = [sum(row[i] ** 2 for row in rows) ** 0.5 for i in range(width)]
    if min(norms) == 0:
        return None
    unit = [[x / n for x, n in zip(row, norms, strict=True)] for row in rows]
    system = [
        [sum(row[i] * row[j] for row in unit) for j in range(width)]
        + [sum(row[i] * w for row, w in zip(unit, wanted, strict=True))]
        for i in range(width)
    ]
    for i in range(width):
        pivot = max(range(i, width), key=lambda r: abs(system[r][i]))
        if abs(system[pivot][i]) < 1e-9:
            return None
        system[i], system[pivot] = system[pivot], system[i]
        system[i] = [x / system[i][i] for x in system[i]]
        for r in range(width):
            if r != i:
                factor = system[r][i]
                system[r] = [x - factor * y for x, y in zip(system[r], system[i], strict=True)]
    return [row[-1] / n for row, n in zip(system, norms, strict=True)]
