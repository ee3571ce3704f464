"""The changes of a commit, for people."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bot.localhub.blobs import Blobs
from bot.localhub.objects import File, Tree

_MAX_TEXT = 128 * 1024  # bytes of each side; more would make a page that nobody reads
_MAX_LINES = 2000
_MAX_FILES = 100  # that are compared line by line


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A file before and after. ``lines`` is a unified diff, or None when it is not shown."""

    path: str
    before: File | None
    after: File | None
    lines: tuple[str, ...] | None

    @property
    def kind(self) -> Literal["added", "changed", "deleted"]:
        """The kind of change to the file."""
        if self.before is None:
            return "added"
        return "changed" if self.after else "deleted"


def changes_between(blobs: Blobs, before: Tree, after: Tree) -> list[FileChange]:
    """Return what differs between two trees, in the order of paths."""
    found: list[FileChange] = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            lines = _lines(blobs, old, new) if len(found) < _MAX_FILES else None
            found.append(FileChange(path=path, before=old, after=new, lines=lines))
    return found


def as_text(changes: list[FileChange]) -> str:
    """Return a unified diff of all that can be shown."""
    return "".join(f"{line}\n" for c in changes for line in _file_lines(c))


def _file_lines(change: FileChange) -> Iterator[str]:
    yield f"--- {'a/' + change.path if change.before else '/dev/null'}"
    yield f"+++ {'b/' + change.path if change.after else '/dev/null'}"
    yield from change.lines if change.lines is not None else ("(not shown)",)


def _lines(blobs: Blobs, before: File | None, after: File | None) -> tuple[str, ...] | None:
    old, new = _text(blobs, before), _text(blobs, after)
    if old is None or new is None or len(old) + len(new) > _MAX_LINES:
        return None
    return tuple(difflib.unified_diff(old, new, lineterm=""))[2:]


def _text(blobs: Blobs, file: File | None) -> list[str] | None:
    if file is None:
        return []
    if file.lfs or file.size > _MAX_TEXT:
        return None
    try:
        return blobs.path(file.sha256).read_bytes().decode().splitlines()
    except UnicodeDecodeError:
        return None
