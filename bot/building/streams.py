"""Streams: the weights of a release come as workers ask for them, and go when these are done with each.

So a model is converted on a disk that would not hold it. The files are sparse (bot/source/sparse_files.py); the
messages of workers and the answers to them are in worker/feed.py.

Several workers may read at once, in nearly the same order: each tensor is fetched once, and stays until the last of
them is done with it. A worker far ahead of the others waits, so that the tensors that stay for them fit on the disk.

Two kinds of threads meet here. For each worker, the thread that reads its messages calls ``take``; ``_CONNECTIONS``
threads of the stream fetch. Their shared state (the readers, the tensors that are coming, those that are there, the
counts of bytes) is read and changed only while ``_changed`` is held, and every change wakes all that wait. The bytes
themselves are written without it: a tensor that is coming belongs to the one thread that fetches it, until it is in
``_there``. Workers never wait for each other directly: one that is ahead is just not answered yet. When all wait and
the disk is full, tensors that only others are yet to read are dropped for the worker furthest behind, and fetched again
later; so the stream always goes on.
"""

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
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


class Reader:
    """A worker's place at a stream, until it is closed. Until it has said its order, it may yet want anything."""

    def __init__(self, stream: "WeightStream") -> None:
        """Take no place: ``WeightStream.reader`` gives them."""
        self.stream = stream
        self.answer: Callable[[dict[str, Json]], None] = lambda _: None
        self.undecided = True  #: another order is to come
        self.left: Counter[str] = Counter()  #: of its order, what it has not given back
        self.next: deque[str] = deque()  #: … and what has not begun to come
        self.held: set[str] = set()
        self.waits: deque[str] = deque()  #: what it waits for and nobody fetches yet
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def begin(self, answer: Callable[[dict[str, Json]], None]) -> None:
        """Say how the worker, which begins now, is answered."""
        self.answer = answer

    def take(self, event: dict[str, Json]) -> bool:
        """Do what an event of the worker asks for. Return False for one of another kind."""
        return self.stream.take(self, event)

    def close(self) -> None:
        """Leave. Tensors that only this worker wanted are dropped."""
        self.stream.leave(self)

    def wants(self, name: str) -> bool:
        """Say whether a tensor that is there has to stay for this worker."""
        return self.undecided or self.left[name] > 0 or name in self.held


class WeightStream:
    """Fetches tensors into the files of ``folder``, in the order that workers give, and a little ahead of them.

    ``places`` are the tensors by name, and ``read`` fetches one. ``ahead`` is how many bytes may be on the disk before
    they are asked for, and ``most`` how many may be there for workers that are behind the others (four times as many).
    Tensors in ``keep`` stay, once they came, and do not count as ahead. ``peak`` is the most bytes of weights that
    were on the disk at once, and ``fetched`` all that came. The error of a failed download is kept in ``error``, and
    the workers are told.
    """

    def __init__(
        self,
        places: Mapping[str, TensorRange],
        folder: Path,
        read: ReadRange,
        *,
        ahead: int,
        most: int | None = None,
        keep: Collection[str] = (),
    ) -> None:
        self.error: Exception | None = None
        self.peak = self.fetched = 0
        self._places, self._read, self._ahead = places, read, ahead
        self._most = 4 * ahead if most is None else most
        self._keep = frozenset(keep)
        self._changed = threading.Condition()
        self._readers: list[Reader] = []
        self._coming: set[str] = set()
        self._there: set[str] = set()
        self._used = self._kept = 0
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

    def reader(self) -> Reader:
        """Return a place for a worker. Those who are to share what comes take theirs before the first one begins."""
        reader = Reader(self)
        with self._changed:
            self._readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Forget a reader. Tensors that only it wanted are dropped."""
        with self._changed:
            reader.closed = True
            if reader in self._readers:
                self._readers.remove(reader)
            self._drop_unwanted(list(self._there))
            self._changed.notify_all()

    def take(self, reader: Reader, event: dict[str, Json]) -> bool:
        """Do what an event of a reader's worker asks for. Return False for one of another kind."""
        kind = event["event"]
        if kind not in ("order", "need", "released"):
            return False
        with self._changed:
            if kind == "order":
                self._plan(reader, event["tensors"], more=event.get("more", False))
            elif kind == "need":
                self._need(reader, event["tensor"])
            else:
                reader.held.discard(event["tensor"])
                reader.left[event["tensor"]] -= 1
                self._release(reader, event["tensor"])
            self._changed.notify_all()
        return True

    def _plan(self, reader: Reader, names: Json, *, more: bool) -> None:
        """Fetch these next. Tensors of an older plan that are no longer wanted are dropped, now or on arrival."""
        reader.undecided = more
        reader.left = Counter(names)
        self._drop_unwanted(list(self._there), own=reader)
        reader.next = deque(n for n in names if n not in self._there and n not in self._coming)

    def _need(self, reader: Reader, name: str) -> None:
        reader.held.add(name)
        if name in reader.next:  # it would come again at its turn, when nobody waits for it
            reader.next.remove(name)
        if self.error is not None:
            reader.answer({"failed": str(self.error)})
        elif name in self._there:
            reader.answer({"have": name})
        elif name not in self._coming:
            reader.waits.append(name)

    def _release(self, reader: Reader, name: str) -> None:
        """Drop a tensor unless another worker wants it. Its own worker needs it anew, if its order names it again."""
        if name in self._there and not any(r.wants(name) for r in self._readers if r is not reader):
            self._drop(name)

    def _drop_unwanted(self, names: Iterable[str], own: Reader | None = None) -> None:
        """Drop what nobody wants. One that says a new order (``own``) wants of the old one only what it holds."""
        for name in names:
            if not any(_wants(r, name, own) for r in self._readers):
                self._drop(name)

    def _drop(self, name: str) -> None:
        if name in self._keep:
            return
        self._there.discard(name)
        place = self._places[name]
        sparse_files.punch(self._files[place.file.path].fileno(), place.begin, place.end)
        self._used -= place.end - place.begin

    # ---- fetching ------------------------------------------------------------------------------------------------

    def _fetch_all(self) -> None:
        while (name := self._await_next()) is not None:
            try:
                self._fetch(self._places[name])
            except _StoppedError:
                return
            except Exception as error:  # noqa: BLE001 - raised again where the worker is waited for
                self.fail(error)
                return
            with self._changed:
                self._coming.discard(name)
                self._there.add(name)
                for reader in self._readers:
                    if name in reader.held:
                        reader.answer({"have": name})
                if not any(r.left[name] > 0 or name in r.held for r in self._readers):
                    self._drop(name)
                self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Fetch nothing more, and tell all workers why."""
        with self._changed:
            self.error = self.error or error
            for reader in self._readers:
                reader.answer({"failed": str(self.error)})
            self._stopped = True
            self._changed.notify_all()

    def _await_next(self) -> str | None:
        """Return the tensor to fetch next, when there is one and room for it; None at the end."""
        with self._changed:
            while not self._stopped:
                name = self._needed_now() or self._next_ahead()
                if name is not None:
                    self._coming.add(name)
                    self._count(name)
                    return name
                self._changed.wait()
            return None

    def _needed_now(self) -> str | None:
        """Return a tensor that somebody waits for and that has room, or that all wait for and nothing else helps.

        Then it is the one of the worker that is furthest behind. The tensors that make room for it are fetched again
        for the others, who have yet to read them.
        """
        waiting = [r for r in self._readers if r.waits]
        for reader in waiting:
            if self._used + self._size(reader.waits[0]) <= self._most:
                return self._begun(reader)
        if not waiting or len(waiting) < len(self._readers) or any(r.held & self._coming for r in waiting):
            return None
        last = max(waiting, key=lambda r: sum(self._size(n) for n, count in r.left.items() if count > 0))
        for name in [n for n in self._there if not any(n in r.held for r in self._readers) and not last.left[n] > 0]:
            if self._used + self._size(last.waits[0]) <= self._most:
                break
            self._drop(name)
        return self._begun(last)

    def _begun(self, reader: Reader) -> str:
        name = reader.waits.popleft()
        for other in self._readers:
            if name in other.waits:
                other.waits.remove(name)
        return name

    def _next_ahead(self) -> str | None:
        """Return what a worker will ask for next, of the one that has most to read, if there is room ahead."""
        for reader in sorted(self._readers, key=lambda r: len(r.next), reverse=True):
            while reader.next and reader.next[0] in self._there | self._coming:
                reader.next.popleft()
            if reader.next:
                size, ahead = self._size(reader.next[0]), self._used - self._kept
                fits = ahead + size <= self._ahead and self._used + size <= self._most
                return reader.next.popleft() if fits or not ahead else None
        return None

    def _count(self, name: str) -> None:
        self._used += self._size(name)
        self._kept += self._size(name) if name in self._keep else 0
        self.peak = max(self.peak, self._used)

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


def _wants(reader: Reader, name: str, own: Reader | None) -> bool:
    if reader is own:
        return name in reader.held or reader.left[name] > 0
    return reader.wants(name)
