"""Sums over blocks are those of all weights, in however many parts they are made."""

from typing import Any

import numpy as np
import pytest

from bot.worker.block_sums import Rows

Array = Any


def alike(found: Array, expected: Array) -> bool:
    return bool(np.allclose(found, expected, rtol=1e-4, atol=1e-6))


@pytest.mark.parametrize(("count", "columns"), [(1, 64), (5, 100), (3, 16), (700, 352), (2, 100_000)])
def test_sums_are_those_of_the_weights_of_each_block(count: int, columns: int) -> None:
    chance = np.random.default_rng(0)
    want = chance.normal(0, 0.05, (count, columns)).astype(np.float32)
    got = want + chance.normal(0, 0.01, want.shape).astype(np.float32)
    rows = Rows.of(got, want, 32)
    end = columns // 32 * 32
    g, w = (x.astype(np.float64)[:, :end].reshape(count, -1, 32) for x in (got, want))
    assert alike(rows.sums.energy, (w * w).sum(-1))
    assert alike(rows.sums.error, np.square(g - w).sum(-1))
    assert alike(rows.sums.product, (g * w).sum(-1))
    assert alike(rows.sums.moved, (g - w).sum(-1))
    assert alike(rows.sums.joined(2).energy, (w * w)[:, : end // 64 * 2].reshape(count, -1, 64).sum(-1))
    assert rows.sum("energy") == pytest.approx(np.square(want, dtype=np.float64).sum(), rel=1e-5)


def test_a_number_that_is_broken_shows_in_the_sums_of_its_block_alone() -> None:
    want: Array = np.ones((2, 96), dtype=np.float32)
    got = want.copy()
    got[1, 40] = np.nan
    sums = Rows.of(got, want, 32).sums
    for found in (sums.error, sums.product, sums.moved):
        assert np.isnan(found).tolist() == [[False] * 3, [False, True, False]]
