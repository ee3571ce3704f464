"""A large file that is written from its beginning to its end, and after a kill goes on from what was whole."""

from pathlib import Path
from typing import Any, Self

from bot.records.artifacts import Json
from bot.worker.following import Following
from bot.worker.journal import Journal


class GrowingFile:
    """A file on its way. ``start`` is where it goes on: 0 for a new one.

    ``plan`` is all that decides its bytes (see Journal). ``state`` is what the last mark kept: what the writer has to
    know to go on.
    """

    def __init__(self, folder: Path, name: str, plan: Json) -> None:
        self._journal = Journal(folder, name, plan, lambda said, size: size >= said["size"])
        said = self._journal.said or {"size": 0, "state": None}
        self.start: int = said["size"]
        self.state: Json = said["state"]
        self._file = self._journal.part.open("r+b" if self.start else "w+b", buffering=0)
        self._file.truncate(self.start)
        self._file.seek(self.start)
        self._at = self._marked = self.start
        self._following = Following(self._journal.part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def write(self, data: Any) -> None:
        """Append bytes, or anything with the buffer interface."""
        view = memoryview(data).cast("B")
        size = view.nbytes
        while view:
            view = view[self._file.write(view) :]
        self._wrote(size)

    def fileno(self) -> int:
        """Return the file's descriptor. Who writes through it calls ``wrote``."""
        return self._file.fileno()

    def wrote(self, size: int) -> None:
        """Count bytes that were appended through the descriptor."""
        self._wrote(size)
        self._file.seek(self._at)

    def mark(self, state: Json = None, *, now: bool = False) -> None:
        """Say that all so far is whole, and that with ``state`` the next process can go on from here.

        To be called after every tensor or group of them; it costs something only now and then, or ``now``.
        """
        unsaid = self._at - self._marked
        if unsaid and (now or self._journal.due(unsaid)):
            self._journal.mark(self._file.fileno(), {"size": self._at, "state": state})
            self._marked = self._at

    def finish(self, target: Path) -> str:
        """Give the file its name, and return its SHA-256 in hex. It takes no more bytes."""
        digest = self._following.digest(self._at)
        self._close()
        self._journal.finish(target)
        return digest

    def _wrote(self, size: int) -> None:
        self._at += size
        self._following.reach(self._at)

    def _close(self) -> None:
        self._following.stop()
        self._file.close()
