"""Matrices of OpenVINO rounded for what they are multiplied with: the shared solver on nncf's groups of 4 bits."""

from typing import Any

import numpy as np

from bot.worker.moments import WHOLE
from bot.worker.rounding import float16
from bot.worker.solver import Grid, Solved

Array = Any  # numpy is not installed where mypy runs

MODES = ("int4_asym", "int4_sym")  #: of nncf: those whose groups the solver knows


def fits(shape: tuple[int, ...], mode: str, group: int) -> bool:
    """Say whether the solver knows what nncf makes of a matrix: groups that are parts of a row, of 4 bits."""
    return len(shape) == 2 and mode in MODES and group > 0 and WHOLE % group == 0 and shape[1] % group == 0


def grid(mode: str, group: int) -> Grid:
    """Return the levels of such groups. Scales are stored in 16 bits."""
    return Grid(bits=4, group=group, offsets="zero" if mode == "int4_asym" else "middle", stored=float16)


def parts(solved: Solved, mode: str) -> dict[str, bytes]:
    """Return the bytes of what is stored of an even number of rows, by the names of plan.Part.

    Codes of a symmetric mode are signed, and have no zero points.
    """
    signs = np.uint8(8 if mode == "int4_sym" else 0)
    found = {"weight": _packed(solved.codes ^ signs), "scale": solved.scales.astype(np.float16).tobytes()}
    if mode == "int4_asym":
        found["zero_point"] = _packed(solved.zero_points)
    return found


def _packed(codes: Array) -> bytes:
    """Return codes two to a byte, the first in the lower half, and 0 beside one that is left."""
    pairs: Array = np.append(codes, np.zeros(codes.size % 2, np.uint8)).reshape(-1, 2)
    packed: bytes = (pairs[:, 0] | pairs[:, 1] << 4).tobytes()
    return packed
