"""The table of rooms, rooms.toml: what a change of a file touches. It is the only place that knows."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from bot.reconvert.records import Difference, Room, Touch, What

_FILE = Path(__file__).with_name("rooms.toml")
_FORMAT = "{format}"
_LISTED = 50  # files of one change

_EVERY: dict[Touch, tuple[What, Literal["every format", "every family", "each format"]]] = {
    "every build": ("steps", "every format"),
    "references": ("measuring", "every format"),
    "importance matrices": ("importance", "every format"),
    "sample checkpoints": ("sample", "every family"),
    "every card": ("cards", "each format"),
    "pictures": ("pictures", "every format"),
    "plan": ("plan", "every format"),
    "publishing": ("publishing", "every format"),
    "commands": ("commands", "every format"),
    "reports": ("reports", "every format"),
}
_OF: dict[str, What] = {"builds of ": "code", "lock of ": "lock", "cards of ": "cards"}


@cache
def own_rooms() -> tuple[Room, ...]:
    """Return the rows of the table of this code."""
    return tuple(Room.from_json(row) for row in tomllib.loads(_FILE.read_text(encoding="utf-8"))["room"])


def find(path: str, rooms: Sequence[Room], formats: Sequence[str]) -> list[tuple[Room, str]]:
    """Return the rows that a file is in, each with the format that its path names ("" for none).

    Among the patterns that fit it, those with the fewest ``*`` count, and among these one without ``{format}``.
    """
    fitting = list(_fitting(path, rooms, tuple(formats)))
    closest = min((rank for rank, _, _ in fitting), default=None)
    return [(room, form) for rank, room, form in fitting if rank == closest]


def touched_by(
    files: Sequence[Sequence[str]], tables: Sequence[Sequence[Room]], formats: Sequence[str]
) -> tuple[Difference, ...]:
    """Return what the change of some files touches; each is given by its paths, where it was and where it is.

    A path is looked up in the first table that has it. A file that none has touches everything.
    """
    found: dict[tuple[What, str], list[str]] = {}
    for paths in files:
        rows = [row for path in paths for row in _first(path, tables, formats)]
        touches = [effect for room, form in rows for effect in _effects(room, form, formats)]
        for effect in dict.fromkeys(touches if rows else _everything(formats)):
            found.setdefault(effect, []).append(paths[-1])
    return tuple(
        Difference(what=what, name=name, files=tuple(of[:_LISTED])) for (what, name), of in sorted(found.items())
    )


def _first(path: str, tables: Sequence[Sequence[Room]], formats: Sequence[str]) -> list[tuple[Room, str]]:
    return next((rows for table in tables if (rows := find(path, table, formats))), [])


def _fitting(
    path: str, rooms: Sequence[Room], formats: tuple[str, ...]
) -> Iterator[tuple[tuple[int, bool], Room, str]]:
    for room in rooms:
        for pattern in room.files:
            if (match := _compiled(pattern, formats).fullmatch(path)) is not None:
                yield (pattern.count("*"), _FORMAT in pattern), room, match.groupdict().get("format", "")


@cache
def _compiled(pattern: str, formats: tuple[str, ...]) -> re.Pattern[str]:
    one_of = "|".join(map(re.escape, formats)) or "(?!)"
    parts = {"*": "[^/]*", _FORMAT: f"(?P<format>{one_of})"}
    pieces = re.split(r"(\*|\{format\})", pattern)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces))


def _effects(room: Room, form: str, formats: Sequence[str]) -> Iterator[tuple[What, str]]:
    for touch in room.touches:
        if touch in _EVERY:
            what, name = _EVERY[touch]
            yield from ((what, f) for f in (formats if name == "each format" else (name,)))
        else:
            start = next(s for s in _OF if touch.startswith(s))
            yield _OF[start], touch.removeprefix(start).replace(_FORMAT, form)


def _everything(formats: Sequence[str]) -> Iterator[tuple[What, str]]:
    every = Room(name="", touches=tuple(_EVERY), files=())
    yield from _effects(every, "", formats)
    yield from ((what, name) for what in _OF.values() if what != "lock" for name in formats)
