"""OpenVINO's matrices as they are solved: what is stored is what the solver gave. Of whole files see tests/worker."""

from typing import Any

import numpy as np
import pytest

from bot.formats.openvino.worker import calibrated, mix
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


def test_a_type_takes_the_bytes_that_are_stored_of_it() -> None:
    source = weights(6, 384)
    types = mix.types(source.shape)
    assert list(types) == ["int8_asym", "int4_asym-g32", "int4_asym-g64", "int4_asym-g128"]
    for name, levels in types.items():
        mode, group = mix.parted(name)
        assert mix.name_of(mode, group) == name
        if levels.solved:
            stored = calibrated.parts(solve(source, [factor(moments(384, 500))], levels.grid), mode)
            assert levels.size == sum(map(len, stored.values()))


def test_a_matrix_has_only_types_whose_groups_part_its_rows() -> None:
    assert list(mix.types((64, 160))) == ["int8_asym", "int4_asym-g32"]
    assert mix.types((4, 64, 256)) == {}  # experts
