"""The types that ONNX's matrices may have, to be chosen by what rounding to them costs.

Each node says how many bits its weights have, and how many weights share a scale: so one graph may have several types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.formats.onnx.worker.calibrated import Levels
from bot.worker import mixing
from bot.worker.mixing import Mix, Mixer

OPTION = "types"  #: of a recipe whose types are chosen
_BITS = (4, 8)
_BLOCKS = (32, 64, 128)
_LOOKED_UP = 4  # bits of rows that are looked up, as the builder has them: it leaves 8 to products


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix of the checkpoint whose type is free: its shape, and the ``own`` type that the builder gives it.

    ``scales`` is a type of numpy's. Of one that ``looked_up`` is true, rows are the embedding too.
    """

    rows: int
    columns: int
    own: Levels
    scales: Any
    looked_up: bool

    def types(self) -> dict[str, Levels]:
        """Return the types that it may have, by their names; none where the builder pads its rows."""
        if not self.own.fit(self.columns) or self.own.zero_points:
            return {}
        found = [
            Levels(bits=bits, block=block, zero_points=False)
            for bits in ((_LOOKED_UP,) if self.looked_up else _BITS)
            for block in _BLOCKS
        ]
        return {name_of(levels): levels for levels in found if levels.fit(self.columns)}

    def measured(self, levels: Levels) -> mixing.Levels:
        """Return a type with its bytes: of codes, and of scales."""
        weights = self.rows * self.columns
        size = weights * levels.bits // 8 + weights // levels.block * self.scales.itemsize
        return mixing.Levels(size=size, grid=levels.grid(self.scales))


def name_of(levels: Levels) -> str:
    """Return the name of a type in a record: ``int4-b32``, and ``int4-b32-zp`` where blocks have zero points."""
    return f"int{levels.bits}-b{levels.block}{'-zp' if levels.zero_points else ''}"


@dataclass(kw_only=True)
class TypesByMixer:
    """Gives matrices the types that a ``mixer`` chooses, in the place of those that the builder gives them."""

    mixer: Mixer
    mix: Mix | None = None

    def decide(self, matrices: Mapping[str, Matrix]) -> dict[str, Levels]:
        """Return the types of matrices, by their names in the checkpoint; those that are not free are left out."""
        free = {name: types for name, m in matrices.items() if (types := m.types())}
        measured = {name: {k: matrices[name].measured(v) for k, v in types.items()} for name, types in free.items()}
        self.mix = self.mixer.choose(measured, {name: name_of(m.own) for name, m in matrices.items()})
        return {name: free[name][kind] for name, kind in self.mix.kinds.items()} if self.mix is not None else {}
