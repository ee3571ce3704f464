"""Unpacking weights of few bits fast: in parts that stay in a core's own cache. Needs numpy alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = Any  # numpy is not installed where mypy runs

_IN_CACHE = 1 << 16  # weights: 256 KiB of float32, and a core's own cache holds some arrays of them


def few_rows(count: int, columns: int) -> Iterator[slice]:
    """Yield so many rows a few at once, to compute with them in several steps before others come."""
    step = max(_IN_CACHE // max(columns, 1), 1)
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def codes(packed: Array, bits: int) -> Array:
    """Return whole numbers, one a byte, from rows of bytes that hold one, or two of 4 bits with the first one below."""
    if bits == 8:
        return packed
    pairs = packed.astype("<u2")
    pairs |= pairs << 4
    pairs &= 0x0F0F
    return pairs.view(np.uint8)
