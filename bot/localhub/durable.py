"""Files that are whole or absent, whatever kills the process and when."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

_WRITING = "writing-"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between threads and processes; the system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, thread_local=False):
        yield


@contextmanager
def shared(path: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold a lock that any number may hold at once, or one ``alone``; the system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(file: BinaryIO) -> None:
    """Bring a file's bytes to the disk."""
    file.flush()
    os.fsync(file.fileno())


def move_into_place(source: Path, target: Path) -> None:
    """Give a whole, synced file its name at once, replacing what had that name."""
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(target.parent.parent)
    source.replace(target)
    sync_folder(target.parent)


def read_json(path: Path) -> Any:
    """Return the JSON in a file; FileNotFoundError when there is none."""
    return json.loads(path.read_bytes())


class Scratch:
    """A folder for files on their way, on the same disk as their target.

    Each process has its own inside ``root``, held by a lock; what dead processes left is removed when the next one
    opens.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / "lock"):
            for left in root.iterdir():
                if left.is_dir():
                    _remove_if_dead(left)
            self.folder = Path(tempfile.mkdtemp(dir=root))
            self._lock = FileLock(self.folder / "lock", thread_local=False)
            self._lock.acquire()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say that something is being written since now; the word is gone with the process, if not before."""
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=_WRITING)
        os.close(handle)
        try:
            yield
        finally:
            Path(name).unlink(missing_ok=True)

    def began(self) -> int:
        """Return when the oldest began of all that is being written, by any process, or now; by the disk's clock."""
        with self.file() as file:
            times = [os.fstat(file.fileno()).st_mtime_ns]
        for word in self.folder.parent.glob(f"*/{_WRITING}*"):
            with suppress(FileNotFoundError):
                times.append(word.stat().st_mtime_ns)
        return min(times)

    def close(self) -> None:
        """Remove the folder."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        """Open a new file for writing; it is gone at the end of the block unless it was moved into place."""
        handle, name = tempfile.mkstemp(dir=self.folder)
        try:
            os.close(handle)
            with Path(name).open("r+b") as file:  # which knows its name, unlike one made from the handle
                yield file
        finally:
            Path(name).unlink(missing_ok=True)

    def write(self, target: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Write a whole file in one step that cannot be seen half done."""
        with self.file() as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            sync_file(file)
            move_into_place(Path(file.name), target)

    def write_json(self, target: Path, value: Any, *, mode: int = 0o644) -> None:
        """Write JSON in one step."""
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        self.write(target, text.encode(), mode=mode)

    def remove_tree(self, folder: Path) -> None:
        """Remove a folder in one step that cannot be seen half done."""
        doomed = Path(tempfile.mkdtemp(dir=self.folder))
        folder.rename(doomed / "gone")
        sync_folder(folder.parent)
        shutil.rmtree(doomed, ignore_errors=True)


def _remove_if_dead(folder: Path) -> None:
    try:
        with FileLock(folder / "lock", timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        pass
