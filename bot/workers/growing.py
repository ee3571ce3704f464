"""A large file that is written from its beginning to its end, and after a kill goes on from what was whole.

Beside ``NAME.part`` a journal says how many bytes of it are whole: they were on the disk before it said so.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Self

from bot.records import Json, digest_of

_MARK_BYTES = 256 << 20  # what a kill costs at most, in bytes written …
_MARK_SECONDS = 5.0  # … or in time, whichever comes first


class Growing:
    """A file on its way. ``start`` is where it goes on: 0 for a new one.

    ``plan`` is all that decides its bytes, beside what its place already stands for (a folder of one build key): what
    was written under another plan is thrown away. ``state`` is what the last mark kept: what the writer has to know to
    go on.
    """

    def __init__(self, folder: Path, name: str, plan: Json) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._part, self._journal = folder / f"{name}.part", folder / f"{name}.journal"
        self._plan = digest_of(plan)
        self.start, self.state = self._whole()
        self._file = self._part.open("r+b" if self._part.exists() else "x+b")
        self._file.truncate(self.start)
        self._file.seek(self.start)
        self._at = self._marked = self.start
        self._when = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, data: Any) -> None:
        """Append bytes, or anything with the buffer interface."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._at += view.nbytes

    def fileno(self) -> int:
        """Return the file's descriptor. Who writes through it calls ``wrote``."""
        self._file.flush()
        return self._file.fileno()

    def wrote(self, size: int) -> None:
        """Count bytes that were appended through the descriptor."""
        self._at += size
        self._file.seek(self._at)

    def mark(self, state: Json = None, *, now: bool = False) -> None:
        """Say that all so far is whole, and that with ``state`` the next process can go on from here.

        To be called after every tensor or group of them; it costs something only now and then, or ``now``.
        """
        due = self._at - self._marked >= _MARK_BYTES or time.monotonic() - self._when >= _MARK_SECONDS
        if self._at == self._marked or not (due or now):
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        temporary = self._journal.with_suffix(".new")
        temporary.write_text(json.dumps({"plan": self._plan, "whole": self._at, "state": state}), encoding="utf-8")
        temporary.replace(self._journal)
        self._marked, self._when = self._at, time.monotonic()

    def finish(self, target: Path) -> None:
        """Give the file its name. It takes no more bytes."""
        self._file.close()
        self._part.replace(target)
        self._journal.unlink(missing_ok=True)

    def _whole(self) -> tuple[int, Json]:
        try:
            said = json.loads(self._journal.read_text(encoding="utf-8"))
            whole: int = said["whole"]
            if said["plan"] == self._plan and self._part.stat().st_size >= whole:
                return whole, said["state"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never begun, or of no use
        return 0, None
