"""Rows to quantize, of all kinds that might come out otherwise in lanes. Runs inside the toolchain too."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = Any


def rows(random: Any, count: int, width: int) -> Iterator[tuple[str, Array]]:
    """Yield float32 rows, each kind under its name."""
    shape = (count, width)

    def normal(spread: float = 1.0) -> Array:
        return random.normal(0, spread, shape)

    def mixed(lowest: int, highest: int, together: int = 1) -> Array:
        exponents = random.integers(lowest, highest, (count, width // together)).repeat(together, axis=1)
        return normal() * 10.0**exponents

    def with_some(*values: float) -> Array:
        found = normal()
        for value in values:
            found[random.random(shape) < 0.002] = value
        return found

    kinds = {
        "as weights are": normal(0.02),
        "in bfloat16": (normal(0.02).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32),
        "heavy-tailed": random.standard_t(1.5, shape),
        "zero": np.zeros(shape),
        "minus zero": -np.zeros(shape),
        "constant in blocks": normal()[:, ::16].repeat(16, axis=1),
        "positive": np.abs(normal()),
        "negative": -np.abs(normal()),
        "far above zero": 5 + normal(0.01),
        "far below zero": -5 + normal(0.01),
        "sparse": normal() * (random.random(shape) < 0.05),
        "ternary": random.integers(-1, 2, shape) * 0.03,
        "whole numbers": random.integers(-8, 8, shape),
        "denormal": normal(1e-39),
        "about to vanish": normal(1e-14),
        "of mixed sizes": mixed(-45, 9),
        "of blocks of mixed sizes": mixed(-45, 9, together=16),
        "large": normal(1e8),
        "huge": normal(1e37),
        "with huge ones": mixed(-45, 38),
        "with NaN": with_some(np.nan),
        "with infinities": with_some(np.inf, -np.inf),
        "any bits": random.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32),
    }
    with np.errstate(all="ignore"):
        for name, kind in kinds.items():
            yield name, np.ascontiguousarray(kind, np.float32)


def importances(random: Any, width: int) -> Iterator[tuple[str, Array | None]]:
    """Yield importances of columns, each kind under its name."""
    kinds = {
        "as measured": random.normal(0, 1, width) ** 2,
        "mostly zero": random.random(width) * (random.random(width) < 0.1),
        "zero": np.zeros(width),
        "of mixed sizes": 10.0 ** random.integers(-30, 9, width),
        "negative too": random.normal(0, 1, width),
        "with NaN": np.where(random.random(width) < 0.01, np.nan, 1.0),
    }
    yield "none", None
    for name, kind in kinds.items():
        yield name, np.ascontiguousarray(kind, np.float32)
