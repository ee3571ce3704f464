"""The SHA-256 of a file that is being written: it is read back a little behind the writer, in a thread of its own.

Hashed afterwards, the file would keep one core busy and the others waiting (0.9 GB a second), and be read from the disk
where it is larger than what the system keeps in memory.
"""

import hashlib
import threading
from pathlib import Path

_PIECE = 1 << 20


class Following:
    """Hashes a file from its beginning, as far as ``reach`` has said that its bytes will not change."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._at = self._end = 0
        self._last = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name="sha256", daemon=True)
        self._thread.start()

    def reach(self, end: int) -> None:
        """Say how many bytes from the first on are what they will be."""
        with self._changed:
            self._end = end
            self._changed.notify()

    def digest(self, size: int) -> str:
        """Return the digest of the whole file, in hex, when it is known. Raises OSError where it cannot be read."""
        self._close(size)
        if self._error is not None:
            raise self._error
        return self._sha256.hexdigest()

    def stop(self) -> None:
        """Hash no more of it."""
        self._close(0)

    def _close(self, end: int) -> None:
        with self._changed:
            self._end, self._last = end, True
            self._changed.notify()
        self._thread.join()
        self._file.close()

    def _follow(self) -> None:
        buffer = memoryview(bytearray(_PIECE))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._at < self._end or self._last)
                left = self._end - self._at
            if left <= 0:
                return
            try:
                count = self._file.readinto(buffer[: min(left, _PIECE)])
                if not count:
                    raise OSError(f"{self._file.name} is shorter than was written")
            except OSError as error:
                self._error = error
                return
            self._sha256.update(buffer[:count])
            self._at += count
