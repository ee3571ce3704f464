"""The weights of a checkpoint as its files hold them, mapped and not read: what is not looked at takes no memory.

Builders that are handed such views do their work tensor by tensor, in the memory of one. A page that was read counts as
resident until it is dropped, so what is done with goes back at once. The system's cache keeps it for who reads it next,
except of a source that does not fit there: its beginning would be gone when somebody came back to it, and so would the
files that are being written, which the hash behind the writer would read from the disk again.
"""

import math
import mmap
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bot.worker.feed import Feed
from bot.worker.stored import StoredTensor, require_float, tensors_of

_AHEAD = 256 << 20  # bytes of what comes next that the system is asked to read meanwhile: a second of a fast disk
SMALL = 1 << 20  #: bytes; tensors up to here (norms, biases) are read whenever a library likes, so they always stay


class Mapped:
    """All tensors of the checkpoint in a folder. With a ``feed`` they come when they are needed, and go afterwards."""

    def __init__(self, source: Path, feed: Feed | None = None) -> None:
        """Read the headers and map the files. Raises SourceProblem, naming the file, unless all are floats."""
        #: by name, in the order of the files and of the data in each
        self.stored: Mapping[str, StoredTensor] = tensors_of(source)
        for name, stored in self.stored.items():
            require_float(name, stored)
        self.streamed = feed is not None
        self._feed = feed
        self._next: deque[str] = deque()
        self._asked = 0
        self._forget = feed is None and sum(s.size for s in self.stored.values()) > _room()
        self._files: dict[Path, BinaryIO] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        for file in dict.fromkeys(s.file for s in self.stored.values()):
            self._files[file] = file.open("rb")
            self._maps[file] = mmap.mmap(self._files[file].fileno(), 0, access=mmap.ACCESS_READ)
        if feed is not None:
            small = [n for n, s in self.stored.items() if s.size <= SMALL]
            feed.order(small, more=True)
            for name in small:
                feed.need(name)  # and never released

    def view(self, name: str) -> memoryview:
        """Return a tensor's bytes, without reading them. A streamed one's are there only while it is ``held``."""
        stored = self.stored[name]
        return memoryview(self._maps[stored.file])[stored.begin : stored.begin + stored.size]

    def order(self, names: Sequence[str]) -> None:
        """Say which tensors will be held from now on, one after the other."""
        large = [n for n in names if self.stored[n].size > SMALL]
        if self._feed is not None:
            self._feed.order(large)
        else:
            self._next, self._asked = deque(large), 0
            self._read_ahead()

    @contextmanager
    def held(self, *names: str) -> Iterator[None]:
        """Let tensors be there for the block; after it give back their memory, and of a streamed source their disk."""
        large = [n for n in names if self.stored[n].size > SMALL]
        for name in large if self._feed is not None else ():
            self._feed.need(name)  # type: ignore[union-attr]
        try:
            yield
        finally:
            self._asked -= sum(self.stored[n].size for n in large)
            self._read_ahead()
            for name in large:
                self.drop(name)
                if self._feed is not None:
                    self._feed.release(name)

    def _read_ahead(self) -> None:
        """Have the system read what comes next, so that nobody waits for a disk page by page."""
        if not hasattr(os, "posix_fadvise"):  # macOS and Windows
            return
        while self._next and self._asked < _AHEAD:
            stored = self.stored[self._next.popleft()]
            self._asked += stored.size
            os.posix_fadvise(self._files[stored.file].fileno(), stored.begin, stored.size, os.POSIX_FADV_WILLNEED)

    def drop(self, name: str, begin: int = 0, end: int | None = None) -> None:
        """Give back the memory of a tensor's pages that were read, or of its bytes from ``begin`` to ``end``.

        Nothing is lost: they can be read again. Pages that another tensor shares stay.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):  # Windows
            return
        stored = self.stored[name]
        first = -(-(stored.begin + begin) // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (stored.begin + (stored.size if end is None else end)) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            self._maps[stored.file].madvise(mmap.MADV_DONTNEED, first, last - first)
            if self._forget:
                os.posix_fadvise(self._files[stored.file].fileno(), first, last - first, os.POSIX_FADV_DONTNEED)


def _room() -> float:
    """Return how many bytes of a source the system's cache may keep: what is made of it comes there too."""
    if not hasattr(os, "posix_fadvise"):  # macOS and Windows: nothing can be forgotten
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
