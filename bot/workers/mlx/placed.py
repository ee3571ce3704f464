"""Files that are written in another order than they lie in, and after a kill go on from what was whole.

MLX lays out a file's arrays by a hash of their names: a matrix, its scales and its biases lie far from each other, and
are computed together. So each has its place, and a journal says how many of the steps, in the order of the
computation, are whole: they were on the disk before it said so.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from bot.records import Json, digest_of

_MARK_BYTES = 256 << 20  # what a kill costs at most, in bytes written …
_MARK_SECONDS = 5.0  # … or in time, whichever comes first


class Placed:
    """Files on their way, of known sizes. ``done`` is the number of steps that need not be made again.

    ``plan`` is all that decides their bytes, beside what the folder already stands for: what was written under another
    plan is thrown away.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, int], plan: Json) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._parts = {name: folder / f"{name}.part" for name in sizes}
        self._journal, self._plan = folder / "placed.journal", digest_of(plan)
        self.done = self._marked = self._whole(sizes)
        self._files = {name: os.open(p, os.O_RDWR | os.O_CREAT, 0o666) for name, p in self._parts.items()}
        for name, file in self._files.items():
            os.ftruncate(file, sizes[name])  # of holes: no room is taken yet
        self._unmarked, self._when = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def write(self, name: str, at: int, data: Any) -> int:
        """Write bytes, or anything with the buffer interface, at their place; return how many."""
        rest = memoryview(data).cast("B")
        self._unmarked += rest.nbytes
        size = rest.nbytes
        while rest:
            count = os.pwrite(self._files[name], rest, at)
            at, rest = at + count, rest[count:]
        return size

    def mark(self, done: int) -> None:
        """Say that so many steps are whole. To be called after each one; it costs something only now and then."""
        due = self._unmarked >= _MARK_BYTES or time.monotonic() - self._when >= _MARK_SECONDS
        if done <= self._marked or not due:
            return
        for file in self._files.values():
            os.fsync(file)
        temporary = self._journal.with_suffix(".new")
        temporary.write_text(json.dumps({"plan": self._plan, "done": done}), encoding="utf-8")
        temporary.replace(self._journal)
        self._marked, self._unmarked, self._when = done, 0, time.monotonic()

    def finish(self, out: Path) -> None:
        """Move the files into a folder. They take no more bytes."""
        self.__exit__()
        for name, part in self._parts.items():
            part.replace(out / name)
        self._journal.unlink(missing_ok=True)

    def _whole(self, sizes: Mapping[str, int]) -> int:
        try:
            said = json.loads(self._journal.read_text(encoding="utf-8"))
            if said["plan"] == self._plan and all(p.stat().st_size == sizes[n] for n, p in self._parts.items()):
                return int(said["done"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never begun, or of no use
        return 0
