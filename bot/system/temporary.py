"""Folders in the system's temporary folder: ours, removed when they are done with, or when their process is dead."""

import errno
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".phi-bot-lock"
_NAME = re.compile(r"phi-bot-(?:[a-z]+-)?[a-z0-9_]{8}")  # as tempfile makes them
_YOUNG_SECONDS = 600.0  # one whose process has not come to hold its lock yet
_OLDER_VERSIONS = "task.json"  # in folders without a lock, which versions before this one left
_DAY = 86400.0


@contextmanager
def folder(kind: str = "") -> Iterator[Path]:
    """Make a temporary folder, removed at the end of the block; if this process is killed, by the next one that cleans.

    Raises OSError where the temporary folder is full.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=f"phi-bot-{kind}")
    except FileNotFoundError as error:  # Python's word for it, where nothing can be written to any of them
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(home())) from error
    with made as name, FileLock(Path(name) / _LOCK):
        yield Path(name)


def home() -> Path:
    """Return the folder for temporary files, whether or not it can be written to."""
    # Not gettempdir: that writes to each in turn, and raises where it can write to none.
    return Path(tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp")  # noqa: S108


def abandoned(where: Path) -> list[Path]:
    """Return the folders of killed processes of this account."""
    return [path for path in sorted(where.glob("phi-bot-*")) if _NAME.fullmatch(path.name) and _is_abandoned(path)]


def _is_abandoned(path: Path) -> bool:
    try:
        if path.is_symlink() or not path.is_dir():
            return False
        if sys.platform != "win32" and path.lstat().st_uid != os.getuid():
            return False
        lock = path / _LOCK
        if not lock.is_file():
            return (path / _OLDER_VERSIONS).is_file() and time.time() - path.stat().st_mtime > _DAY
        if time.time() - path.stat().st_mtime < _YOUNG_SECONDS:
            return False
        with FileLock(lock).acquire(timeout=0):
            return True
    except (OSError, Timeout):
        return False
