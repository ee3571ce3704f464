"""The processes at work in a working folder, so that nobody's files are removed while in use.

    locks/gate.lock     held for moments: while a lock file is made, taken or removed, and while something is looked up
    locks/users/ID.lock held by each process for as long as it is at work; its time is when that began
    scratch/ID.lock     held by the owner of scratch/ID

Lock files come and go only behind the gate, which stays. Without it, a process could open a lock file in the moment
before another one removes it, and hold a lock that nobody else sees. What is kept is looked up behind the gate too, and
carries the time at which it was last used; so what was used after the first of those at work began is theirs.
"""

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.1
_ID = re.compile(r"[0-9a-f]{32}")
_MARGIN_SECONDS = 600.0  # clocks are set back now and then, and those of a shared disk differ from ours


@contextmanager
def gate(root: Path) -> Iterator[None]:
    """Be the only process that looks something up, or makes or removes a lock file, in a working folder.

    For moments; not to be entered twice by one thread.
    """
    folder = root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "gate.lock"):
        yield


@contextmanager
def hold_new_lock(root: Path, file: Path) -> Iterator[None]:
    """Hold a lock that nobody else knows of yet. Its file goes at the end of the block, however that ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    with gate(root):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # whoever took it for that of a killed process meanwhile removed it
            file.unlink()


def acquire(root: Path, lock: FileLock, *, wait: bool) -> bool:
    """Take a lock that others know of; return whether it was free, or became so while this ``wait``ed."""
    while True:
        with gate(root), suppress(Timeout):
            lock.acquire(timeout=0)
            return True
        if not wait:
            return False
        time.sleep(_POLL_SECONDS)


@contextmanager
def keep_from_cleaning(root: Path) -> Iterator[None]:
    """Let nothing be cleaned away that the block uses."""
    with hold_new_lock(root, root / "locks" / "users" / f"{uuid.uuid4().hex}.lock"):
        yield


def use(root: Path, folder: Path) -> bool:
    """Say whether a folder is there, and if it is, that it is used now."""
    if not folder.exists():
        return False
    with gate(root):
        try:
            os.utime(folder)
        except FileNotFoundError:  # it was cleaned away
            return False
        except OSError:  # of another account, or on a disk that is read only: nobody cleans it away from here
            return True
    return True


def used_since(root: Path) -> float | None:
    """Return the time after which what was used belongs to a process at work, None where none is. Behind the gate."""
    began = []
    for file in (root / "locks" / "users").glob("*.lock"):
        if not _remove_lock_of_dead(file):
            with suppress(FileNotFoundError):  # it ended in this moment
                began.append(file.stat().st_mtime)
    return min(began) - _MARGIN_SECONDS if began else None


def abandoned(root: Path) -> list[Path]:
    """Return what killed processes left in scratch/. Lock files of theirs are removed."""
    scratch = root / "scratch"
    if not scratch.is_dir():
        return []
    left = []
    with gate(root):
        for path in sorted(scratch.iterdir()):
            is_lock = path.suffix == ".lock"
            if not _ID.fullmatch(path.stem if is_lock else path.name):
                continue  # none of ours
            if _remove_lock_of_dead(path if is_lock else path.with_name(f"{path.name}.lock")) and not is_lock:
                left.append(path)
    return left


def spare_locks(root: Path) -> int:
    """Remove the files of locks that nobody holds; return how many there were. Those who wait for one make it anew."""
    with gate(root):
        return sum(_remove_lock_of_dead(file) for file in (root / "locks").glob("*.lock") if file.name != "gate.lock")


def discard(root: Path, folder: Path) -> Path:
    """Move something into scratch/, where it counts as abandoned; return where it is. Behind the gate.

    So it is gone at one stroke, and what a kill leaves of it then is removed by the next process.
    """
    gone = root / "scratch" / uuid.uuid4().hex
    gone.parent.mkdir(parents=True, exist_ok=True)
    return folder.rename(gone)


def remove(path: Path) -> None:
    """Remove a file or a folder as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _remove_lock_of_dead(file: Path) -> bool:
    """Remove a lock file unless a living process holds it; return whether that is so. Behind the gate."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except (Timeout, PermissionError):  # another account's is none of ours to judge
        return False
    try:
        file.unlink(missing_ok=True)
    except OSError:  # Windows removes no open file: then it goes next time
        return True
    finally:
        lock.release()
    return True
