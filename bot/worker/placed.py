"""A file whose parts are written in any order, and that after a kill goes on with those that were not whole.

The tensors of one GGUF file lie in the order in which the converter comes to them, and of another one in that of its
quantizer; the arrays of an MLX file in that of a hash table, scales far from their weights. If files were only appended
to, one read of the source would not do for all of them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from bot.records.artifacts import Json
from bot.worker.following import Following
from bot.worker.journal import Journal


class PlacedFile:
    """A file of a known ``size`` on its way. ``parts`` says of each part where it begins and ends.

    ``whole`` are the parts that were written already. ``plan`` is all that decides the bytes (see Journal).
    """

    def __init__(self, folder: Path, name: str, size: int, plan: Json, parts: Mapping[str, tuple[int, int]]) -> None:
        """Open the file. Parts that are not written yet are holes in it, and read as zeros."""
        self._size, self._parts = size, parts
        self._journal = Journal(folder, name, plan, lambda _, there: there == size)
        self.whole: frozenset[str] = frozenset(self._journal.said or ())
        self._file = self._journal.part.open("r+b" if self.whole else "w+b", buffering=0)
        self._file.truncate(size)
        self._written = set(self.whole)
        self._pending = 0
        self._missing = sorted(self._parts.keys() - self.whole, key=lambda part: self._parts[part], reverse=True)
        self._following = Following(self._journal.part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def write(self, data: Any, offset: int) -> None:
        """Write bytes, or anything with the buffer interface. Safe to call from several threads."""
        view = memoryview(data).cast("B")
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def mark(self, part: str) -> None:
        """Say that a part is written, and what is before the first one. It is noted now and then."""
        self._written.add(part)
        begin, end = self._parts[part]
        self._pending += end - begin
        while self._missing and self._missing[-1] in self._written:
            self._missing.pop()
        self._following.reach(self._parts[self._missing[-1]][0] if self._missing else self._size)
        if self._journal.due(self._pending):
            self._journal.mark(self._file.fileno(), sorted(self._written))
            self._pending = 0

    def finish(self, target: Path) -> str:
        """Give the file its name, and return its SHA-256 in hex."""
        digest = self._following.digest(self._size)
        self._close()
        self._journal.finish(target)
        return digest

    def discard(self) -> None:
        """Remove the file: it will never be whole."""
        self._close()
        self._journal.discard()

    def _close(self) -> None:
        self._following.stop()
        self._file.close()
