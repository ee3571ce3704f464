"""Unpacking: numbers of 4 bits come in the order that they are stored in, and rows come a few at once, each of them."""

from typing import Any

import numpy as np
import pytest

from bot.worker.packed import codes, few_rows

Array = Any


def test_of_two_numbers_in_a_byte_the_lower_half_is_the_first() -> None:
    stored: Array = np.array([[0x21, 0x43], [0xF0, 0x0F]], dtype=np.uint8)
    assert codes(stored, 4).tolist() == [[1, 2, 3, 4], [0, 15, 15, 0]]


def test_a_number_of_eight_bits_is_a_byte() -> None:
    stored: Array = np.arange(256, dtype=np.uint8).reshape(2, 128)
    assert codes(stored, 8).tolist() == stored.tolist()


def test_every_byte_is_unpacked_and_left_as_it_is() -> None:
    stored: Array = np.arange(256, dtype=np.uint8).reshape(1, 256)
    assert codes(stored[:, ::2], 4).reshape(-1, 2).tolist() == [[n & 15, n >> 4] for n in range(0, 256, 2)]
    assert stored.tolist() == [list(range(256))]


@pytest.mark.parametrize(("count", "columns"), [(0, 8), (1, 10**6), (7, 40_000), (1000, 3072), (5, 0)])
def test_rows_come_once_each_in_their_order(count: int, columns: int) -> None:
    parts = [list(range(count))[part] for part in few_rows(count, columns)]
    assert [row for part in parts for row in part] == list(range(count))
    assert all(len(part) == 1 or len(part) * columns <= 1 << 16 for part in parts)
