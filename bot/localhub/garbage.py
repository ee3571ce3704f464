"""Blobs that nothing refers to any more: found and removed while others write, in this process and in others.

A blob is used by a repo that holds it for LFS, or has a small file of that content in any of its trees. What is about
to be used is not seen there yet. So whoever writes says when that began (``Scratch.writing``), and touches a blob
before referring to it (``Blobs.keep``); only what was last touched before all that is being written began is removed.
Touching and removing exclude each other: a writer finds a blob that stays, or none, and then stores it.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread

from filelock import FileLock, Timeout

from bot.localhub import names
from bot.localhub.durable import read_json
from bot.localhub.repo import LocalRepo
from bot.localhub.store import LocalHub

log = logging.getLogger(__name__)

YOUNG = 10.0  # seconds that a blob stays in any case: clocks can be put back
_AFTER_START = 60.0  # seconds until what an earlier process left is looked for
_TRIES = 3


class _ChangedError(Exception):
    """A repo was moved, or deleted, while it was read: what it uses is not known."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The removed files, and whether there is more that was too young, or could not be looked at now."""

    blobs: int
    size: int
    more: bool


_NOTHING = Collected(blobs=0, size=0, more=True)


def collect(hub: LocalHub, *, young: float = YOUNG, going_on: Callable[[], bool] = lambda: True) -> Collected:
    """Remove the blobs that nothing uses; killed anywhere, the rest is removed the next time.

    One process does it at a time; another finds nothing.
    """
    try:
        with FileLock(hub.folder / "locks" / "garbage.lock", timeout=0, thread_local=False):
            for _ in range(_TRIES):
                before = hub.scratch.began() - int(young * 1e9)  # first: what begins later touches later
                with suppress(_ChangedError):
                    used = _used(hub, going_on)
                    return _sweep(hub, used, before, going_on) if going_on() else _NOTHING
    except Timeout:
        pass
    return _NOTHING


def _sweep(hub: LocalHub, used: set[str], before: int, going_on: Callable[[], bool]) -> Collected:
    blobs = size = 0
    more = False
    for name in hub.blobs.names():
        if name not in used and going_on():
            removed = hub.blobs.remove(name, before)
            more |= removed is None
            blobs, size = blobs + (removed is not None), size + (removed or 0)
    return Collected(blobs=blobs, size=size, more=more)


def _used(hub: LocalHub, going_on: Callable[[], bool]) -> set[str]:
    """Return the blobs that repos use. None is missed for being moved meanwhile: then all are read again."""
    with hub.naming():
        repos = [(r, _inode(r.folder)) for t in names.REPO_TYPES for r in hub.repos(t)]
    found: set[str] = set()
    for repo, inode in repos:
        if going_on():
            found.update(_used_by(repo))
            if _inode(repo.folder) != inode:
                raise _ChangedError
    return found


def _used_by(repo: LocalRepo) -> Iterator[str]:
    yield from _entries(repo.folder / "lfs")
    for tree in _entries(repo.folder / "trees"):
        with suppress(FileNotFoundError):
            yield from (f["sha256"] for f in read_json(repo.folder / "trees" / tree) if not f["lfs"])


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - many names, and no need of their paths
    except FileNotFoundError:
        return []


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


class GarbageCollector:
    """Removes garbage in a thread of its own, soon after ``wake`` and once some time after the start."""

    def __init__(self, hub: LocalHub) -> None:
        self._hub = hub
        self._woken, self._closed = Event(), Event()
        self._lock = Lock()
        self._thread: Thread | None = None
        if hub.blobs.folder.is_dir():
            self._start(_AFTER_START)

    def wake(self) -> None:
        """Say that there is something to remove."""
        self._woken.set()
        self._start(None)

    def close(self) -> None:
        """Stop, in the middle of the work if need be: nothing is half done."""
        self._closed.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self, wait: float | None) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, args=(wait,), name="garbage", daemon=True)
                self._thread.start()

    def _run(self, wait: float | None) -> None:
        while not self._closed.is_set():
            self._woken.wait(wait)
            self._woken.clear()
            wait = None
            try:
                done = collect(self._hub, going_on=lambda: not self._closed.is_set())
            except Exception:
                log.exception("garbage was not removed")
                wait = _AFTER_START
                continue
            if done.blobs:
                log.info("removed %d blobs that nothing uses, %d bytes", done.blobs, done.size)
            if done.more:
                wait = YOUNG + 1
