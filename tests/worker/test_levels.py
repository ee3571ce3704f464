"""Levels: a weight that is nearer to another level of its block than to its own is found, and no other."""

from typing import Any

import numpy as np
import pytest

from bot.worker.block_sums import Rows
from bot.worker.levels import _median, _sorted_by_first, first_wrong

Array = Any

_EXACT = 2**-24  # the relative error of scales that are stored in float32


def rows(got: Array, want: Array, size: int = 32) -> Rows:
    return Rows.of(got.astype(np.float32), want.astype(np.float32), size)


def weights(count: int, columns: int = 128) -> Array:
    return np.random.default_rng(0).normal(0, 0.05, (count, columns)).astype(np.float32)


def nearest(values: Array, step: float = 0.02) -> Array:
    return (np.rint(values / step) * step).astype(np.float32)


def test_weights_at_their_nearest_levels_are_right() -> None:
    want = weights(3000)  # more than are looked at together
    assert first_wrong(rows(nearest(want), want), _EXACT) is None


@pytest.mark.parametrize(("row", "block"), [(0, 0), (1999, 1), (2999, 3)])
def test_a_block_whose_weights_have_the_next_level_is_named(row: int, block: int) -> None:
    want = weights(3000)
    got = nearest(want)
    got[row, block * 32 : (block + 1) * 32] += 0.02
    assert first_wrong(rows(got, want), _EXACT) == (row, block)


def test_the_first_of_several_wrong_blocks_is_named() -> None:
    want = weights(3000)
    got = nearest(want)
    got[2500, :32] += 0.02
    got[7, 64:] += 0.02
    assert first_wrong(rows(got, want), _EXACT) == (7, 2)


@pytest.mark.parametrize("shape", [(1,), (2,), (9,), (10,), (3, 5), (4, 6)])
def test_the_median_is_that_of_numpy(shape: tuple[int, ...]) -> None:
    chance = np.random.default_rng(1)
    for values in (chance.normal(size=shape), np.zeros(shape), chance.integers(0, 3, shape)):
        assert _median(values.astype(np.float32)) == np.median(values.astype(np.float32))


def test_values_come_in_the_order_of_their_keys_whatever_signs_both_have() -> None:
    keys = np.array([[0.5, -2, 1e-30, -1e-30, 3e38, -3e38, 0, -0.25]], dtype=np.float32)
    values = np.array([[1, -2, 3, -4, 5, -6, 7, -8]], dtype=np.float32)
    order = np.argsort(keys, axis=-1)
    found = _sorted_by_first(keys, values)
    assert np.array_equal(found, [np.take_along_axis(x, order, axis=-1) for x in (keys, values)])
