"""A large file that is written from its beginning to its end, and after a kill goes on from what was whole."""

from pathlib import Path
from typing import Any, Self

from bot.records import Json
from bot.workers.journal import Journal


class Growing:
    """A file on its way. ``start`` is where it goes on: 0 for a new one.

    ``plan`` is all that decides its bytes (see Journal). ``state`` is what the last mark kept: what the writer has to
    know to go on.
    """

    def __init__(self, folder: Path, name: str, plan: Json) -> None:
        self._journal = Journal(folder, name, plan, lambda said, size: size >= said["size"])
        said = self._journal.said or {"size": 0, "state": None}
        self.start: int = said["size"]
        self.state: Json = said["state"]
        self._file = self._journal.part.open("r+b" if self.start else "w+b")
        self._file.truncate(self.start)
        self._file.seek(self.start)
        self._at = self._marked = self.start

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
        unsaid = self._at - self._marked
        if unsaid and (now or self._journal.due(unsaid)):
            self._journal.mark(self.fileno(), {"size": self._at, "state": state})
            self._marked = self._at

    def finish(self, target: Path) -> None:
        """Give the file its name. It takes no more bytes."""
        self._file.close()
        self._journal.finish(target)
