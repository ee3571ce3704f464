"""A file whose parts are written in any order, and that after a kill goes on with those that were not whole.

Neither the tensors of a GGUF file nor the arrays of an MLX one lie in the order in which they are best computed: those
lie in the order of the tool that made them, these in that of a hash table. A file that was only appended to would have
the source read twice.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Self

from bot.records import Json, digest_of

_MARK_BYTES = 256 << 20  # what a kill costs at most, in bytes written …
_MARK_SECONDS = 5.0  # … or in time, whichever comes first


class Placed:
    """A file of a known ``size`` on its way. ``whole`` are the parts that are on the disk.

    ``plan`` is all that decides its bytes, beside what its folder already stands for: what was written under another
    plan is thrown away.
    """

    def __init__(self, folder: Path, name: str, size: int, plan: Json) -> None:
        """Open the file. What is not written yet is a hole in it, and reads as zeros."""
        folder.mkdir(parents=True, exist_ok=True)
        self._part, self._journal = folder / f"{name}.part", folder / f"{name}.journal"
        self._plan, self._size = digest_of(plan), size
        self.whole = self._found()
        self._file = self._part.open("r+b" if self.whole else "w+b", buffering=0)
        self._file.truncate(size)
        self._unsaid: list[str] = []
        self._pending = 0
        self._when = time.monotonic()

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
        if self._pending >= _MARK_BYTES or time.monotonic() - self._when >= _MARK_SECONDS:
            os.fsync(self._file.fileno())
            self.whole.update(self._unsaid)
            temporary = self._journal.with_suffix(".new")
            temporary.write_text(json.dumps({"plan": self._plan, "whole": sorted(self.whole)}), encoding="utf-8")
            temporary.replace(self._journal)
            self._unsaid, self._pending, self._when = [], 0, time.monotonic()

    def finish(self, target: Path) -> None:
        """Give the file its name."""
        self._file.close()
        self._part.replace(target)
        self._journal.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file: it will never be whole."""
        self._file.close()
        self._part.unlink()
        self._journal.unlink(missing_ok=True)

    def _found(self) -> set[str]:
        try:
            said = json.loads(self._journal.read_text(encoding="utf-8"))
            if said["plan"] == self._plan and self._part.stat().st_size == self._size:
                return set(said["whole"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never begun, or of no use
        return set()
