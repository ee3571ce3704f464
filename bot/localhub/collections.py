"""Collections: titled lists of repos in an order, each in one small file of the Hub's folder."""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from bot.localhub.durable import Scratch, locked, read_json, sync_folder
from bot.localhub.refused import RefusedError
from bot.records.artifacts import Record

Kind = Literal["model", "dataset"]

MOST_ITEMS = 1000

_ID = re.compile(r"[0-9a-f]{24}", re.ASCII)
_LONGEST_WORDS = 60  # characters of a title in a slug


@dataclass(frozen=True, kw_only=True)
class Item(Record):
    """A repo in a collection: ``repo`` is ``owner/name``. ``id`` is the item's own, by which it is changed."""

    id: str
    type: Kind
    repo: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Collection(Record):
    """A collection of a namespace; ``changed`` is in seconds since 1970. Its items are in their order."""

    id: str
    namespace: str
    title: str
    changed: int
    private: bool = False
    description: str | None = None
    theme: str = "orange"
    items: tuple[Item, ...] = ()

    @property
    def slug(self) -> str:
        """By what it is found: its owner, its title in plain letters, and its id."""
        words = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:_LONGEST_WORDS]
        return f"{self.namespace}/{words}-{self.id}" if words else f"{self.namespace}/{self.id}"

    def item(self, item_id: str) -> Item | None:
        """Return an item by its own id."""
        return next((i for i in self.items if i.id == item_id), None)


def new_id() -> str:
    """Return an id as the real Hub has them: 24 hex digits."""
    return secrets.token_hex(12)


@dataclass(frozen=True, kw_only=True)
class Collections:
    """The collections under one folder. Safe to use from several threads and processes."""

    folder: Path
    lock_file: Path
    scratch: Scratch

    def all(self) -> list[Collection]:
        """Return every collection, the last changed first."""
        return sorted(self._each(), key=lambda c: (-c.changed, c.slug))

    def find(self, slug: str) -> Collection | None:
        """Return a collection by its slug: the id at its end alone counts, so that a new title breaks no address."""
        file = self._file(slug)
        try:
            return Collection.from_json(read_json(file)) if file is not None else None
        except FileNotFoundError:
            return None

    def make(self, wanted: Collection) -> Collection:
        """Keep a new collection, or return the one of the same owner and title that is there already."""
        with locked(self.lock_file):
            for there in self._each():
                if (there.namespace, there.title) == (wanted.namespace, wanted.title):
                    return there
            self._write(wanted)
        return wanted

    def change(self, slug: str, change: Callable[[Collection], Collection]) -> Collection:
        """Change a collection, and return how it is then. Raises RefusedError where it is gone."""
        with locked(self.lock_file):
            old = self.find(slug)
            if old is None:
                raise gone()
            new = replace(change(old), changed=int(time.time()))
            self._write(new)
        return new

    def delete(self, slug: str) -> None:
        """Remove a collection; the repos in it stay."""
        file = self._file(slug)
        with locked(self.lock_file):
            if file is None or not file.exists():
                raise gone()
            file.unlink()
            sync_folder(self.folder)

    def _each(self) -> Iterator[Collection]:
        for file in sorted(self.folder.glob("*.json")):
            yield Collection.from_json(read_json(file))

    def _file(self, slug: str) -> Path | None:
        found = slug.rpartition("/")[2].rpartition("-")[2]
        return self.folder / f"{found}.json" if _ID.fullmatch(found) else None

    def _write(self, collection: Collection) -> None:
        self.scratch.write_json(self.folder / f"{collection.id}.json", collection.to_json())


def gone() -> RefusedError:
    """Return the answer to the name of a collection that is not there, or not for the caller."""
    return RefusedError(HTTPStatus.NOT_FOUND, "Collection not found")
