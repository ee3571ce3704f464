"""A fault of the solver is found where it makes a matrix worse than plain rounding, whatever the solver says itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.worker import solver
from bot.worker.calibrated import Solver, SolverAtWork
from bot.worker.moments import Moments
from bot.worker.solve_check import WorseThanPlainError
from bot.worker.solver import Factor, Grid, Solved
from tests.worker.test_moments import kept
from tests.worker.test_solver import GRIDS, weights

Array = Any

MATRIX = "layer.weight"
_OF_ALL = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def inputs(columns: int, positions: int) -> Array:
    """States that go together, some columns of which are large."""
    chance = np.random.default_rng(1)
    together = np.repeat(chance.normal(size=(positions, columns // 8)), 8, axis=1)
    return ((chance.normal(size=(positions, columns)) + together) * np.exp(chance.normal(size=columns))).astype("<f4")


def solve_all(folder: Path, rows: Array, grid: Grid, *, known: bool = True, positions: int = 1000) -> SolverAtWork:
    """Solve a matrix as a build does, a few rows after the others."""
    kept(folder, **{"layer" if known else "another": inputs(rows.shape[1], positions)})
    at_work = SolverAtWork(Solver(moments=Moments(folder), run=map), {})
    for first in range(0, len(rows), 24):
        _, rounded = at_work.solve(MATRIX, rows[first : first + 24], grid)
        at_work.take(rounded)
    at_work.finish(MATRIX)
    return at_work


@_OF_ALL
@pytest.mark.parametrize("known", [True, False], ids=["known inputs", "unknown inputs"])
def test_what_the_solver_gives_is_let_through(tmp_path: Path, grid: Grid, known: bool) -> None:
    assert list(solve_all(tmp_path, weights(40, 256), grid, known=known).done) == [MATRIX]


def test_weights_that_are_levels_themselves_are_let_through(tmp_path: Path) -> None:
    rows: Array = np.full((5, 256), 0.5, dtype=np.float32)
    assert solve_all(tmp_path, rows, GRIDS["ONNX Runtime"]).done


def test_a_matrix_of_several_blocks_of_columns_is_let_through(tmp_path: Path) -> None:
    assert solve_all(tmp_path, weights(2, 2304), GRIDS["ONNX Runtime"], positions=200).done


def wrong_way(known: Factor) -> Factor:
    """A factor by which errors are made larger instead of being made up for."""
    return Factor(weights=known.weights, order=known.order, shares=-known.shares, costs=known.costs)


def _in_wrong_order(known: Factor) -> Factor:
    return Factor(weights=known.weights, order=known.order[::-1].copy(), shares=known.shares, costs=known.costs)


@_OF_ALL
@pytest.mark.parametrize("fault", [wrong_way, _in_wrong_order], ids=["errors added", "columns in another order"])
def test_a_wrong_factor_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: Grid, fault: Callable[[Factor], Factor]
) -> None:
    """By such a factor the solver itself takes its result for a better one."""
    right = solver.factor
    monkeypatch.setattr("bot.worker.moments.factor", lambda moments: fault(right(moments)))
    with pytest.raises(WorseThanPlainError, match=rf"^{MATRIX} as it was solved is \d.* times as far off as rounded"):
        solve_all(tmp_path, weights(40, 256), grid)


def _codes_of_neighbours(found: Solved) -> Solved:
    return Solved(codes=np.roll(found.codes, 1, axis=1), scales=found.scales, offsets=found.offsets)


def _scales_of_the_row_below(found: Solved) -> Solved:
    return Solved(codes=found.codes, scales=np.roll(found.scales, 1, axis=0), offsets=found.offsets)


def _last_row_not_finite(found: Solved) -> Solved:
    scales = found.scales.copy()
    scales[-1, 0] = np.nan
    return Solved(codes=found.codes, scales=scales, offsets=found.offsets)


@_OF_ALL
@pytest.mark.parametrize("fault", [_codes_of_neighbours, _scales_of_the_row_below, _last_row_not_finite])
def test_a_wrong_result_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: Grid, fault: Callable[[Solved], Solved]
) -> None:
    right = solver.solve
    monkeypatch.setattr("bot.worker.calibrated.solve", lambda *given: fault(right(*given)))
    with pytest.raises(WorseThanPlainError):
        solve_all(tmp_path, weights(40, 256), grid)


def test_a_result_that_the_solver_itself_takes_for_exact_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes drawn at random, without any error as the solver says."""

    def compensated(block: Array, *_: object) -> tuple[Array, Array]:
        codes = np.random.default_rng(0).integers(0, 16, block.shape).astype(np.uint8)
        return codes, np.zeros(len(block), dtype=np.float32)

    monkeypatch.setattr("bot.worker.solver._compensated", compensated)
    with pytest.raises(WorseThanPlainError):
        solve_all(tmp_path, weights(40, 256), GRIDS["OpenVINO"])
