"""Rounding for what a matrix is multiplied with: better than plain rounding on every grid, and always the same."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bot
from bot.worker import solver
from bot.worker.rounding import bfloat16, float16
from bot.worker.solver import DAMPING, Factor, Grid, Solved, factor, improve, plainly, solve, unknown

Array = Any

GRIDS = {
    "MLX, 4 bits": Grid(bits=4, group=64, offsets="free", stored=bfloat16),
    "MLX, 3 bits in groups of 32": Grid(bits=3, group=32, offsets="free", stored=float16),
    "ONNX Runtime": Grid(bits=4, group=32, offsets="middle", stored=np.float32),
    "OpenVINO": Grid(bits=4, group=128, offsets="zero", stored=float16),
    "8 bits": Grid(bits=8, group=64, offsets="zero", stored=np.float32),
}
_OF_ALL = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def weights(rows: int, columns: int, seed: int = 0) -> Array:
    """Weights with some outliers, as models have them."""
    return (np.random.default_rng(seed).standard_t(5, (rows, columns)) * 0.05).astype(np.float32)


def moments(columns: int, tokens: int, seed: int = 0) -> Array:
    """Second moments of inputs that go together and have some large columns, as those of models do."""
    chance = np.random.default_rng(seed)
    mixed = chance.normal(size=(columns, columns)) * 0.3 + np.eye(columns)
    inputs = chance.normal(size=(tokens, columns)) @ (mixed * np.exp(chance.normal(size=columns)))
    return (inputs.T @ inputs).astype(np.float32)


def errors(rows: Array, solved: Solved, of_inputs: Array) -> Array:
    """The weighted error of each row, in float64, from its definition."""
    damped = of_inputs.astype(np.float64) / (of_inputs.diagonal().mean() or 1)
    damped += DAMPING * np.eye(len(damped))
    off = rows.astype(np.float64) - solved.values
    return np.einsum("ri,ij,rj->r", off, damped, off)


@_OF_ALL
def test_it_is_much_better_than_plain_rounding(grid: Grid) -> None:
    rows, of_inputs = weights(40, 256), moments(256, 3000)
    ratio = errors(rows, solve(rows, [factor(of_inputs)], grid), of_inputs).sum()
    assert ratio < 0.45 * errors(rows, plainly(rows, grid), of_inputs).sum()


@_OF_ALL
@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000), tokens=st.sampled_from([0, 1, 5, 100, 1000]), scale=st.sampled_from([1e-12, 1.0, 1e6])
)
def test_no_row_is_worse_than_plainly_rounded(grid: Grid, seed: int, tokens: int, scale: float) -> None:
    """Also of moments of fewer tokens than columns, which have no inverse, and of none at all."""
    rows, of_inputs = weights(6, 256, seed), moments(256, tokens, seed) * np.float32(scale)
    found = solve(rows, [factor(of_inputs)], grid)
    assert np.isfinite(found.values).all()
    assert found.codes.max() <= grid.last
    allowed = errors(rows, plainly(rows, grid), of_inputs)
    assert (errors(rows, found, of_inputs) <= allowed * 1.001 + 1e-12).all()


@_OF_ALL
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_what_no_input_is_known_of_has_its_scales_searched(grid: Grid, seed: int) -> None:
    rows = weights(6, 256, seed)
    found = solve(rows, [unknown(256)], grid)
    squares = np.square(rows - found.values).sum(axis=1)
    assert (squares <= np.square(rows - plainly(rows, grid).values).sum(axis=1) * 1.0001).all()


@_OF_ALL
@pytest.mark.parametrize("value", [0.0, 0.5, -0.375])
def test_equal_weights_stay_what_they_are(grid: Grid, value: float) -> None:
    rows: Array = np.full((3, 256), value, dtype=np.float32)
    found = solve(rows, [factor(moments(256, 500))], grid)
    assert np.abs(found.values - rows).max() <= abs(value) * 2**-10


@_OF_ALL
def test_groups_of_padding_stay_zero(grid: Grid) -> None:
    rows = weights(4, 256)
    rows[:, 128:] = 0
    of_inputs = moments(256, 1000)
    of_inputs[128:] = of_inputs[:, 128:] = 0  # columns of padding: neither weights nor inputs
    assert not solve(rows, [factor(of_inputs)], grid).values[:, 128:].any()


@_OF_ALL
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), tokens=st.sampled_from([0, 5, 1000]))
def test_on_levels_that_are_given_only_codes_change_and_no_row_is_worse(grid: Grid, seed: int, tokens: int) -> None:
    rows, of_inputs = weights(6, 256, seed), moments(256, tokens, seed)
    before = plainly(rows, grid)
    found = improve(rows, before, [factor(of_inputs)], grid)
    assert (found.scales == before.scales).all()
    assert (found.offsets == before.offsets).all()
    allowed = errors(rows, before, of_inputs)
    assert (errors(rows, found, of_inputs) <= allowed * 1.001 + 1e-12).all()


def test_codes_on_given_levels_come_nearer_where_inputs_are_known_and_stay_where_they_are_not() -> None:
    grid, rows = GRIDS["MLX, 4 bits"], weights(40, 512)
    of_inputs, before = moments(256, 3000), plainly(weights(40, 512), grid)
    found = improve(rows, before, [factor(of_inputs), unknown(256)], grid)
    assert (found.codes[:, 256:] == before.codes[:, 256:]).all()
    ours, allowed = (
        errors(
            rows[:, :256], Solved(codes=s.codes[:, :256], scales=s.scales[:, :4], offsets=s.offsets[:, :4]), of_inputs
        )
        for s in (found, before)
    )
    assert ours.sum() < 0.6 * allowed.sum()


def test_what_a_column_makes_up_for_is_what_the_inverse_says() -> None:
    """Held against GPTQ as it is published: by the Cholesky factor of the inverse of the moments."""
    grid = GRIDS["ONNX Runtime"]
    rows, of_inputs = weights(5, 64), moments(64, 200)
    known = factor(of_inputs)
    on = solver._nearest(rows, *solver.search(rows, known.weights, grid), grid)
    codes, _ = solver._compensated(rows, on, known, grid)
    order = known.order
    damped = (of_inputs / of_inputs.diagonal().mean() + DAMPING * np.eye(64)).astype(np.float64)[np.ix_(order, order)]
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, want = rows[:, order].astype(np.float64), np.empty((5, 64))
    for k in range(64):
        scale, offset = (a[:, order[k] // grid.group].astype(np.float64) for a in (on.scales, on.offsets))
        want[:, k] = np.clip(np.rint((left[:, k] - offset) / scale), 0, grid.last)
        error = (left[:, k] - (want[:, k] * scale + offset)) / upper[k, k]
        left[:, k:] -= np.outer(error, upper[k, k:])
    assert (codes[:, order] == want).mean() > 0.99, "but for ties that float32 breaks otherwise"


def test_the_factor_is_a_root_of_the_moments() -> None:
    of_inputs = moments(200, 1000)
    known = factor(of_inputs)
    root = (known.shares + np.eye(200)) * np.sqrt(known.costs)
    damped = of_inputs / of_inputs.diagonal().mean() + DAMPING * np.eye(200)
    assert np.abs(root @ root.T - damped[np.ix_(known.order, known.order)]).max() < 1e-5 * np.abs(damped).max()


def test_columns_of_two_blocks_are_solved_by_themselves() -> None:
    rows, grid = weights(7, 512), GRIDS["MLX, 4 bits"]
    of_blocks = [factor(moments(256, 1000, seed)) for seed in (1, 2)]
    whole = solve(rows, of_blocks, grid)
    parts = [solve(rows[:, i * 256 : (i + 1) * 256], [of_blocks[i]], grid) for i in (0, 1)]
    for name in ("codes", "scales", "offsets"):
        assert (getattr(whole, name) == np.concatenate([getattr(p, name) for p in parts], axis=1)).all()


def test_moments_that_are_not_finite_are_refused() -> None:
    broken = moments(64, 100)
    broken[3, 5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        factor(broken)


def digest_of_solve(*, threads: int) -> str:
    """The digest of what comes of a matrix of several parts."""
    rows, known = weights(2100, 512), [factor(moments(512, 700))]
    with ThreadPoolExecutor(threads) as pool:
        found = solve(rows, known, GRIDS["MLX, 4 bits"], pool.map)
    total = hashlib.sha256()
    for array in (known[0].shares, found.codes, found.scales, found.offsets):
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


@pytest.mark.process
def test_the_number_of_threads_changes_no_byte() -> None:
    """Neither of our own threads nor of BLAS's, which are told apart when numpy is imported."""
    code = "from tests.worker.test_solver import digest_of_solve; print(digest_of_solve(threads={}))"
    digests = set()
    for blas, threads in ((1, 1), (2, 1), (3, 2)):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": str(blas), "VECLIB_MAXIMUM_THREADS": str(blas)}
        root = Path(bot.__file__).parents[1]
        command = [sys.executable, "-c", code.format(threads)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_a_factor_of_inputs_that_are_always_zero_knows_nothing() -> None:
    known: Factor = factor(np.zeros((64, 64), dtype=np.float32))
    assert not known.shares.size
