"""Stand-ins for weights while a graph is made: addresses that read as zeros and take no memory.

torch, OpenVINO and nncf pass weights on by address and look at none of them until a kernel runs or a file is written.
So the graph is made of addresses alone, and each weight is read once, when its bytes are due in the file. That nothing
was looked at is not believed but checked: the kernel knows which pages were.
"""

import ctypes
import mmap
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bot.worker.fast import NotCovered

Array = Any  # numpy is not installed where mypy runs

_TAIL = 1 << 28  # bytes behind the stand-ins, for the constants of a model that are not weights: a few MiB in practice
_PAGEMAP = Path("/proc/self/pagemap")
_ENTRY = 8  # bytes that it has for each page; the highest two bits say that the page was touched
_AT_ONCE = 1 << 17  # entries


class StandIns:
    """A range of addresses with a stand-in for each weight. Raises NotCovered where nobody says what was looked at."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise NotCovered("only Linux says which memory was looked at")
        self.sizes: Mapping[str, int] = {}
        self._begins: dict[str, int] = {}
        self._blanks: list[mmap.mmap] = []
        self._filled: dict[str, bytes] = {}
        self._end = self._base = 0

    def stand_for(self, sizes: Mapping[str, int]) -> None:
        """Make a stand-in for each weight, of its size in bytes, on pages of its own. To be done once."""
        self.sizes, end = sizes, 0
        for name, size in sizes.items():
            self._begins[name] = end
            end += -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._end = self._tail = end
        self._map, self._base = _reserve(end + _TAIL)
        self._names = {self._base + begin: name for name, begin in self._begins.items()}

    def fill(self, name: str, page: bytes) -> None:
        """Put numbers into the first page of a stand-in, so that they are not all the same."""
        self._filled[name] = page[: self.sizes[name]]
        self._write(self._begins[name], self._filled[name])

    def at(self, name: str) -> Any:
        """Return a weight's stand-in as a buffer."""
        return _buffer(self._base + self._begins[name], self.sizes[name])

    def name_at(self, address: int, size: int) -> str | None:
        """Return the weight that an address stands for, or None. Raises NotCovered for a part of one."""
        if not self._base <= address < self._base + self._end:
            return None
        name = self._names.get(address)
        if name is None or self.sizes[name] != size:
            raise NotCovered("a constant is made of a part of a weight")
        return name

    def blank(self, size: int) -> Any:
        """Return a buffer of zeros that takes no memory, for what will be computed of a weight."""
        blank, address = _reserve(max(size, 1))
        self._blanks.append(blank)
        return _buffer(address, size)

    def place(self, data: bytes) -> int:
        """Put a constant that is not a weight behind the stand-ins; return its offset in ``everything``."""
        begin = self._tail
        self._tail += -(-len(data) // 64) * 64  # as OpenVINO aligns them
        if self._tail > self._end + _TAIL:
            raise NotCovered("the model has too many constants that are not weights")
        self._write(begin, data)
        return begin

    def offset(self, name: str) -> int:
        """Return where a stand-in begins in ``everything``."""
        return self._begins[name]

    def everything(self) -> Any:
        """Return the stand-ins and what was placed behind them as one buffer."""
        return _buffer(self._base, self._end + _TAIL)

    def forget(self) -> None:
        """Forget who looked until now."""
        if self._end:
            self._map.madvise(mmap.MADV_DONTNEED, 0, self._end)
        for name, page in self._filled.items():
            self._write(self._begins[name], page)

    def require_unseen(self, who: str) -> None:
        """Raise NotCovered if anything looked at a stand-in: ``who`` may have decided by what it saw."""
        try:
            with _PAGEMAP.open("rb") as pages:
                pages.seek(self._base // mmap.PAGESIZE * _ENTRY)
                count = self._end // mmap.PAGESIZE
                touched: Array = np.zeros(count, bool)
                for first in range(0, count, _AT_ONCE):
                    entries = np.frombuffer(pages.read(min(count - first, _AT_ONCE) * _ENTRY), np.uint64)
                    touched[first : first + len(entries)] = entries >> np.uint64(62)
        except OSError as error:
            raise NotCovered("the system does not say which memory was looked at") from error
        touched[[self._begins[name] // mmap.PAGESIZE for name in self._filled]] = False
        if touched.any():
            raise NotCovered(f"{who} looks at the weights")

    def _write(self, begin: int, data: bytes) -> None:
        """Write to addresses, and let no others be writable: a limit on memory counts those, used or not."""
        first, last = (at // mmap.PAGESIZE * mmap.PAGESIZE for at in (begin, begin + len(data) + mmap.PAGESIZE - 1))
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(self._base + first), ctypes.c_size_t(last - first), 3):
            raise NotCovered("the system does not let memory become writable")
        ctypes.memmove(self._base + begin, data, len(data))


def _reserve(size: int) -> tuple[mmap.mmap, int]:
    """Map addresses that nothing was written to; return the map, which has to be kept, and where it begins."""
    reserved = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    return reserved, np.frombuffer(reserved, np.uint8).ctypes.data


def _buffer(address: int, size: int) -> Any:
    """Return what lies at an address as an object that libraries take for writable, as they ask of what they share."""
    return (ctypes.c_ubyte * size).from_address(address)
