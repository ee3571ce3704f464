"""The known state of every repo, kept from list to list: a repo is read again only when it changed.

Other processes may change the same folder at any moment. So each repo is looked at for each list, but by two file
stamps alone, which costs a hundredth of reading its files.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from bot.localhub.metadata import RepoView, view
from bot.localhub.refused import RefusedError
from bot.localhub.repo import MAIN, LocalRepo

_Stamp = tuple[int, ...]

_SETTLED_NS = 100_000_000  # two changes within a tick of the file system's clock can have the same stamp
_WALKS = 32  # lists that callers may be in the middle of


@dataclass(frozen=True, kw_only=True)
class _Entry:
    seen: RepoView
    stamp: _Stamp | None  # None: too young to be relied on


class Index:
    """The repos below ``root``, whose folders are ``TYPEs/NAMESPACE/NAME``. Safe to use from several threads."""

    def __init__(self, root: Path, repo: Callable[[str, str, str], LocalRepo]) -> None:
        self._root = str(root)
        self._repo = repo
        self._entries: dict[str, dict[str, dict[str, _Entry]]] = {}  # by type, namespace and name
        self._walks: OrderedDict[Hashable, tuple[RepoView, ...]] = OrderedDict()
        self._lock = Lock()

    def all(self, repo_type: str, *, namespace: str | None = None) -> list[RepoView]:
        """Return every repo as it is now: newest first, those of one second in the order of their names."""
        found = list(self._now(repo_type, namespace))
        found.sort(key=lambda s: (-s.commit.date, s.repo.namespace, s.repo.name))
        return found

    def again(self, old: Iterable[RepoView]) -> list[RepoView]:
        """Return repos as they are now; what was deleted since is left out."""
        found = (self._look(s.repo.type, s.repo.namespace, s.repo.name) for s in old)
        return [s for s in found if s is not None]

    def walk(self, key: Hashable, start: int, find: Callable[[], Iterable[RepoView]]) -> tuple[RepoView, ...]:
        """Return what the first page of a list found, or find it now if this is the first page.

        So a list that is read page by page is looked for once, and neither skips nor repeats a repo that moves in it
        meanwhile. ``key`` says whose list it is, and of what.
        """
        with self._lock:
            kept = self._walks.get(key) if start else None
        if kept is None:
            kept = tuple(find())
            with self._lock:
                self._walks[key] = kept
                self._walks.move_to_end(key)
                while len(self._walks) > _WALKS:
                    self._walks.popitem(last=False)
        return kept

    def _now(self, repo_type: str, namespace: str | None) -> Iterator[RepoView]:
        owners = _names(f"{self._root}/{repo_type}s")
        known = self._entries.setdefault(repo_type, {})
        for owner in owners if namespace is None else owners & {namespace}:
            repos = _names(f"{self._root}/{repo_type}s/{owner}")
            for gone in known.get(owner, {}).keys() - repos:
                known[owner].pop(gone, None)
            for name in repos:
                seen = self._look(repo_type, owner, name)
                if seen is not None:
                    yield seen

    def _look(self, repo_type: str, namespace: str, name: str) -> RepoView | None:
        """Return a repo as it is now, or None if it is not there."""
        entries = self._entries.setdefault(repo_type, {}).setdefault(namespace, {})
        stamp = _stamp(f"{self._root}/{repo_type}s/{namespace}/{name}")  # before reading: what comes later is noticed
        if stamp is None:
            entries.pop(name, None)
            return None
        entry = entries.get(name)
        if entry is not None and entry.stamp == stamp:
            return entry.seen
        with suppress(RefusedError):  # deleted at this moment
            seen = view(self._repo(repo_type, namespace, name), MAIN.full)
            settled = time.time_ns() - max(stamp[0], stamp[2]) > _SETTLED_NS
            entries[name] = _Entry(seen=seen, stamp=stamp if settled else None)
            return seen
        return None


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - ten thousand names, and no need of their paths
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _stamp(folder: str) -> _Stamp | None:
    """Return what changes when a repo's settings or its head are replaced, or None if there is no such repo."""
    try:
        settings = os.stat(f"{folder}/repo.json")  # noqa: PTH116 - as above
        head = os.stat(f"{folder}/refs/{MAIN.kind}/{MAIN.name}")  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (settings.st_mtime_ns, settings.st_ino, head.st_mtime_ns, head.st_ino)
