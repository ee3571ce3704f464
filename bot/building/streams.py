"""Streams: the weights of a release come as a worker asks for them, and go when it is done with each.

So a model is converted on a disk that would not hold it. The files have holes (bot/source/sparse_files.py); what a
worker says and is answered is in worker/feed.py.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bot.hub.headers import TensorRange
from bot.records.artifacts import Json
from bot.source import sparse_files

_CONNECTIONS = 4  # a Hub gives each one so much and no more
_STOP_SECONDS = 15.0

ReadRange = Callable[[TensorRange, Callable[[bytes], None]], None]


class _StoppedError(Exception):
    """Nobody wants the bytes any more."""


class Stream:
    """Fetches tensors into the files of ``folder``, in the order that a worker gives, and a little ahead of it.

    ``places`` are the tensors by name, and ``read`` fetches one. ``ahead`` is how many bytes may be on the disk before
    they are asked for. ``peak`` is the most bytes of weights that were on the disk at once, and ``fetched`` all that
    came. What makes fetching fail is kept in ``error``, and the worker told.
    """

    def __init__(self, places: Mapping[str, TensorRange], folder: Path, read: ReadRange, *, ahead: int) -> None:
        self.error: Exception | None = None
        self.peak = self.fetched = 0
        self._places, self._read, self._ahead = places, read, ahead
        self._answer: Callable[[dict[str, Json]], None] = lambda _: None
        self._changed = threading.Condition()
        self._wanted: deque[str] = deque()  # somebody waits for these
        self._order: frozenset[str] = frozenset()  # … and said that it will ask for these, …
        self._next: deque[str] = deque()  # … of which these have not begun to come
        self._coming: set[str] = set()
        self._there: set[str] = set()
        self._held: set[str] = set()
        self._used = 0
        self._stopped = False
        self._open = ExitStack()
        files = {place.file.path for place in places.values()}
        self._files = {f: self._open.enter_context((folder / f).open("r+b", buffering=0)) for f in files}
        self._threads = [
            threading.Thread(target=self._fetch_all, name="stream", daemon=True) for _ in range(_CONNECTIONS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        self._open.close()

    def begin(self, answer: Callable[[dict[str, Json]], None]) -> None:
        """Serve a worker that begins now, and knows nothing of what one before it was given."""
        with self._changed:
            self._answer = answer
            self._held.clear()
            self._wanted.clear()
            self._plan(())

    def take(self, event: dict[str, Json]) -> bool:
        """Do what an event of the worker asks for. Return False for one of another kind."""
        kind = event["event"]
        if kind not in ("order", "need", "released"):
            return False
        with self._changed:
            if kind == "order":
                self._plan(event["tensors"])
            elif kind == "need":
                self._need(event["tensor"])
            else:
                self._held.discard(event["tensor"])
                self._drop(event["tensor"])
            self._changed.notify_all()
        return True

    def _plan(self, names: Json) -> None:
        """Fetch these next. What was fetched for an older plan and is not wanted any more goes, now or on arrival."""
        self._order = frozenset(names)
        for name in self._there - self._held - self._order:
            self._drop(name)
        self._next = deque(n for n in names if n not in self._there and n not in self._coming)

    def _need(self, name: str) -> None:
        self._held.add(name)
        if self.error is not None:
            self._answer({"failed": str(self.error)})
        elif name in self._there:
            self._answer({"have": name})
        elif name not in self._coming:
            self._wanted.append(name)
            if name in self._next:  # it would come again at its turn, when nobody waits for it
                self._next.remove(name)

    def _drop(self, name: str) -> None:
        if name not in self._there:
            return
        place = self._places[name]
        sparse_files.punch(self._files[place.file.path].fileno(), place.begin, place.end)
        self._there.discard(name)
        self._used -= place.end - place.begin

    # ---- fetching ------------------------------------------------------------------------------------------------

    def _fetch_all(self) -> None:
        while (name := self._await_next()) is not None:
            try:
                self._fetch(self._places[name])
            except _StoppedError:
                return
            except Exception as error:  # noqa: BLE001 - raised again where the worker is waited for
                with self._changed:
                    self.error = self.error or error
                    self._answer({"failed": str(self.error)})
                    self._stopped = True
                    self._changed.notify_all()
                return
            with self._changed:
                self._coming.discard(name)
                self._there.add(name)
                if name in self._held:
                    self._answer({"have": name})
                elif name not in self._order:
                    self._drop(name)
                    self._changed.notify_all()

    def _await_next(self) -> str | None:
        """Return the tensor to fetch next, when there is one and room for it; None at the end."""
        with self._changed:
            while not self._stopped:
                if self._wanted:
                    return self._begun(self._wanted.popleft())
                while self._next and self._next[0] in self._there | self._coming:
                    self._next.popleft()
                if self._next and (not self._used or self._used + self._size(self._next[0]) <= self._ahead):
                    return self._begun(self._next.popleft())
                self._changed.wait()
            return None

    def _begun(self, name: str) -> str:
        self._coming.add(name)
        self._used += self._size(name)
        self.peak = max(self.peak, self._used)
        return name

    def _size(self, name: str) -> int:
        place = self._places[name]
        return place.end - place.begin

    def _fetch(self, place: TensorRange) -> None:
        descriptor, at = self._files[place.file.path].fileno(), place.begin

        def write(piece: bytes) -> None:
            nonlocal at
            if self._stopped:
                raise _StoppedError
            view = memoryview(piece)
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
            with self._changed:
                self.fetched += len(piece)

        self._read(place, write)
