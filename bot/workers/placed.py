"""A file whose parts are written in any order, and that after a kill goes on with those that were not whole.

Neither the tensors of a GGUF file nor the arrays of an MLX one lie in the order in which they are best computed: those
lie in the order of the tool that made them, these in that of a hash table. A file that was only appended to would have
the source read twice.
"""

import os
from pathlib import Path
from typing import Any, Self

from bot.records import Json
from bot.workers.journal import Journal


class Placed:
    """A file of a known ``size`` on its way. ``whole`` are the parts that are on the disk.

    ``plan`` is all that decides its bytes (see Journal).
    """

    def __init__(self, folder: Path, name: str, size: int, plan: Json) -> None:
        """Open the file. What is not written yet is a hole in it, and reads as zeros."""
        self._journal = Journal(folder, name, plan, lambda _, there: there == size)
        self.whole: set[str] = set(self._journal.said or ())
        self._file = self._journal.part.open("r+b" if self.whole else "w+b", buffering=0)
        self._file.truncate(size)
        self._unsaid: list[str] = []
        self._pending = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, data: Any, offset: int) -> None:
        """Write bytes, or anything with the buffer interface. Safe to call from several threads."""
        view = memoryview(data).cast("B")
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def mark(self, part: str, size: int) -> None:
        """Say that a part is written. That it stays is made sure of now and then, for that costs something."""
        self._unsaid.append(part)
        self._pending += size
        if self._journal.due(self._pending):
            self._journal.mark(self._file.fileno(), sorted(self.whole.union(self._unsaid)))
            self.whole.update(self._unsaid)
            self._unsaid, self._pending = [], 0

    def finish(self, target: Path) -> None:
        """Give the file its name."""
        self._file.close()
        self._journal.finish(target)

    def discard(self) -> None:
        """Remove the file: it will never be whole."""
        self._file.close()
        self._journal.discard()
