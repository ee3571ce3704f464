"""The output of a worker and its libraries, kept in a log as readable text."""

import io
import threading
from contextlib import suppress
from typing import IO

from bot.printable import logged

_LONGEST = 1 << 16  # characters of a line that are kept together
_PATIENCE = 5.0  # seconds: a grandchild may hold the stream open for ever


class Printed:
    """Copies a stream into a log, line by line, until it ends. It cannot control a terminal that shows the log."""

    def __init__(self, stream: IO[bytes], log: IO[bytes]) -> None:
        self._stream, self._log = stream, log
        self._alone = threading.Lock()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        """Add a line that came another way."""
        self._write(line.decode("utf-8", "replace").replace("\r\n", "\n"))

    def wait(self) -> None:
        """Wait for the end of the stream, but not for long."""
        self._thread.join(_PATIENCE)

    def _copy(self) -> None:
        with suppress(ValueError), io.TextIOWrapper(self._stream, "utf-8", errors="replace") as text:
            while piece := text.readline(_LONGEST):
                self._write(piece)

    def _write(self, text: str) -> None:
        with self._alone, suppress(OSError, ValueError):  # its disk is full, or nobody waits any more
            self._log.write(logged(text).encode("utf-8", "replace"))
            self._log.flush()
