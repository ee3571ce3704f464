"""The types that OpenVINO's matrices may have, to be chosen by what rounding to them costs.

A matrix may have numbers of 4 bits, in groups of several sizes, or of 8 bits with one scale a row, which are rounded
plainly. OpenVINO computes with each of them: nncf gives such types to single layers itself.
"""

from math import ceil

from bot.formats.openvino.worker import calibrated
from bot.worker.mixing import Levels
from bot.worker.rounding import float16
from bot.worker.solver import Grid

OPTION = "types"  #: of a recipe whose types are chosen
WHOLE_ROW = -1  #: nncf's group of a whole row
_GROUPS = (32, 64, 128)  # the last is nncf's default, and the others are what it falls back to for narrow rows
_SCALE = 2  # bytes


def name_of(mode: str, group: int) -> str:
    """Return the name of a type in a record, from nncf's mode and group: ``int4_asym-g64``, or ``int8_asym``."""
    return mode if group == WHOLE_ROW else f"{mode}-g{group}"


def parted(name: str) -> tuple[str, int]:
    """Return the mode and the group of a type by its name."""
    mode, _, group = name.partition("-g")
    return mode, int(group) if group else WHOLE_ROW


def types(shape: tuple[int, ...]) -> dict[str, Levels]:
    """Return the types that a matrix of a shape may have, by their names; none of what is not a matrix."""
    if len(shape) != 2:
        return {}
    rows, columns = shape
    whole = Grid(bits=8, group=columns, offsets="zero", stored=float16)
    found = {name_of("int8_asym", WHOLE_ROW): Levels(size=_size(rows, columns, whole), grid=whole, solved=False)}
    for group in _GROUPS:
        if calibrated.fits(shape, "int4_asym", group):
            grid = calibrated.grid("int4_asym", group)
            found[name_of("int4_asym", group)] = Levels(size=_size(rows, columns, grid), grid=grid)
    return found


def _size(rows: int, columns: int, grid: Grid) -> int:
    """Return the bytes of codes, scales and zero points."""
    groups = rows * columns // grid.group
    return ceil(rows * columns * grid.bits / 8) + groups * _SCALE + ceil(groups * grid.bits / 8)
