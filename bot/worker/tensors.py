"""The tensors of a checkpoint as float32 arrays, read from its safetensors files. Needs numpy alone.

safetensors' own reader has no bfloat16 without torch, which not every toolchain holds.
"""

import math
from collections.abc import Iterable, KeysView
from pathlib import Path
from typing import Any

import numpy as np

from bot.worker.feed import Feed
from bot.worker.harness import SourceProblem
from bot.worker.stored import StoredTensor, require_float, tensors_of

Array = Any  # numpy is not installed where mypy runs

_STORED = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}
_AT_ONCE = 1 << 17  # numbers held as they are stored, beside the float32 that they become: in a core's own cache


class Tensors:
    """All tensors of the checkpoint in a folder. Nothing is held: every read opens its file anew.

    With a ``feed`` they stream: the one that was read last is on the disk, and goes when another one is read.
    """

    def __init__(self, source: Path, feed: Feed | None = None) -> None:
        """Read the headers. Raises SourceProblem, naming the file, for one that is not a safetensors file."""
        self._places = tensors_of(source)
        self._feed = feed
        self._lent = ""

    def names(self) -> KeysView[str]:
        """Return the names of all tensors."""
        return self._places.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor. Raises KeyError when there is none of that name."""
        return self._places[name].shape

    def stored_as(self, name: str) -> str:
        """Return the type of a tensor in its file, as safetensors name it. Raises KeyError when there is none."""
        return self._places[name].dtype

    def order(self, names: Iterable[str]) -> None:
        """Say in which order tensors will be read, as far as that is known."""
        if self._feed is not None:
            self._feed.order(list(names))

    def read(self, name: str, start: int = 0, stop: int | None = None, room: Array = None) -> Array:
        """Return a tensor, or the entries ``start`` to ``stop`` of its first axis, as float32.

        They are put into ``room`` if that is given, a flat array of float32 that may be longer.
        Raises KeyError when there is none of that name, and SourceProblem for a type other than a float.
        """
        place = self._place(name)
        first, end, _ = slice(start, stop).indices(place.shape[0])
        shape = (max(end - first, 0), *place.shape[1:])
        flat: Array = np.empty(math.prod(shape), dtype="<f4") if room is None else room[: math.prod(shape)]
        kind = np.dtype(_STORED[place.dtype])
        # Read, not mapped: pages of a mapped file count as resident, half of a tensor's float32 on top of it.
        stored: Array = np.empty(min(len(flat), _AT_ONCE), dtype=kind)
        with place.file.open("rb") as file:
            file.seek(place.begin + first * math.prod(place.shape[1:]) * kind.itemsize)
            for i in range(0, len(flat), _AT_ONCE):
                part = flat[i : i + _AT_ONCE]
                if file.readinto(stored[: len(part)]) < part.size * kind.itemsize:
                    raise SourceProblem(f"{place.file.name} is damaged: it became shorter")
                _widen(stored[: len(part)], place.dtype, part)
        return flat.reshape(shape)

    def take(self, name: str, entries: Array) -> Array:
        """Return the entries of a tensor's first axis whose indexes are in an array. Raises what ``read`` raises."""
        place = self._place(name)
        stored: Array = np.memmap(place.file, _STORED[place.dtype], "r", place.begin, place.shape)[entries]
        values: Array = np.empty(stored.shape, dtype="<f4")
        _widen(stored, place.dtype, values)
        return values

    def _place(self, name: str) -> StoredTensor:
        place = self._places[name]
        if self._feed is not None and name != self._lent:
            if self._lent:
                self._feed.release(self._lent)
            self._feed.need(name)
            self._lent = name
        require_float(name, place)
        return place


def _widen(stored: Array, kind: str, values: Array) -> None:
    if kind == "BF16":  # the upper half of a float32
        np.left_shift(stored, 16, out=values.view("<u4"), dtype="<u4")
    else:
        values[...] = stored
