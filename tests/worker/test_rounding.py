"""Rounding as runtimes do it: to numbers of 16 bits, and to codes of 8 bits with a scale for each block."""

from typing import Any

import numpy as np
import pytest

from bot.worker.rounding import Arithmetic, bfloat16, eight_bits, float16

VALUES = np.random.default_rng(0).normal(0, 3, (5, 96)).astype(np.float32)


def test_bfloat16_keeps_8_bits_and_rounds_ties_to_even() -> None:
    assert bfloat16(np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -2.5, 0.0], dtype=np.float32)).tolist() == [
        1.0,
        1.0,
        1 + 2**-6,
        -2.5,
        0.0,
    ]
    assert np.abs(bfloat16(VALUES) / VALUES - 1).max() <= 2**-8


def test_float16_keeps_11_bits_and_overflows() -> None:
    assert np.abs(float16(VALUES) / VALUES - 1).max() <= 2**-11
    assert float16(np.array([70_000.0], dtype=np.float32))[0] == np.inf


@pytest.mark.parametrize("block", [32, 64, 0])
def test_eight_bits_are_within_half_a_step_of_each_block(block: int) -> None:
    error = np.abs(eight_bits(block)(VALUES) - VALUES)
    for start in range(0, 96, block or 96):
        part = slice(start, start + (block or 96))
        step = np.abs(VALUES[:, part]).max(axis=-1, keepdims=True) / 127
        assert (error[:, part] <= step / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("shape", [(0, 96), (0, 40), (3, 0)])
@pytest.mark.parametrize("block", [32, 256, 0])
def test_nothing_stays_nothing(block: int, shape: tuple[int, int]) -> None:
    assert eight_bits(block)(np.zeros(shape, dtype=np.float32)).shape == shape


def test_zeros_and_a_shorter_last_block_are_rounded_too() -> None:
    assert not eight_bits(32)(np.zeros((2, 40), dtype=np.float32)).any()
    values: Any = np.ones((1, 40), dtype=np.float32)
    values[0, 36] = 100
    assert eight_bits(32)(values)[0, :32] == pytest.approx(np.ones(32))
    assert eight_bits(32)(values)[0, 36] == pytest.approx(100)


def test_scales_in_float16_change_a_block_by_their_own_rounding() -> None:
    exact, half = eight_bits(32)(VALUES), eight_bits(32, half_scales=True)(VALUES)
    assert 0 < np.abs(half - exact).max() <= np.abs(exact).max() * 2**-11


def test_arithmetic_that_rounds_nothing_is_exact() -> None:
    assert Arithmetic().exact
    assert not Arithmetic(products=True).exact
    assert not Arithmetic(states=bfloat16).exact
