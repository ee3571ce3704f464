"""OpenVINO's matrices as they are solved: what is stored is what the solver gave. Of whole files see tests/worker."""

from typing import Any

import numpy as np
import pytest

from bot.formats.openvino.worker import calibrated
from bot.worker.solver import factor, solve
from bot.worker.weights import one_zero
from tests.worker.test_solver import moments, weights

Array = Any


def codes(packed: bytes) -> Array:
    """Numbers of 4 bits, of which the first of two in a byte is the lower half."""
    two = np.frombuffer(packed, np.uint8)
    return np.stack([two & 15, two >> 4], axis=-1).reshape(-1).astype(np.int8)


@pytest.mark.parametrize("mode", calibrated.MODES)
@pytest.mark.parametrize("rows", [6, 5])
def test_what_is_stored_is_what_the_solver_gave(mode: str, rows: int) -> None:
    source = weights(rows, 192)
    found = solve(source, [factor(moments(192, 500))], calibrated.grid(mode, 64))
    stored = calibrated.parts(found, mode)
    levels = codes(stored["weight"]).reshape(rows, 3, 64)
    if mode == "int4_sym":  # as numbers with a sign
        levels = np.where(levels > 7, levels - 16, levels)
        assert stored.keys() == {"weight", "scale"}
    else:
        levels = levels - codes(stored["zero_point"])[: rows * 3].reshape(rows, 3, 1)
        assert len(stored["zero_point"]) == -(-rows * 3 // 2)
    values = levels * np.frombuffer(stored["scale"], "<f2").astype(np.float32).reshape(rows, 3, 1)
    assert one_zero(values.reshape(rows, 192)).tobytes() == one_zero(found.values).tobytes()


@pytest.mark.parametrize(
    ("shape", "mode", "group"),
    [
        ((64, 256), "int8_asym", -1),  # an embedding
        ((64, 256), "int4_sym", -1),  # one scale a row
        ((4, 64, 256), "int4_asym", 64),  # experts
        ((64, 160), "int4_asym", 64),
        ((64, 256), "int4_asym", 256),
    ],
)
def test_other_levels_are_left_to_nncf(shape: tuple[int, ...], mode: str, group: int) -> None:
    assert not calibrated.fits(shape, mode, group)
    assert calibrated.fits((64, 256), "int4_asym", 64)
