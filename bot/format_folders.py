"""The folders of the formats as data: what a room may read of one without importing its code, or knowing its name.

bot/formats/NAME/ holds, beside ``format.py`` and ``worker/``:

    variants.toml     its rows of the catalogue
    sized.toml        those that take a size (bot/catalogue/sizes.py); where it has any
    lock.in           what its toolchain needs, and why; lock.txt is made of it
    lock.txt          the lock of its toolchain
    devices.toml      a table for each device that its runtime knows, for its worker and its card; where it has any
    look.toml         a Look: how it is shown, and how others are told that a repo is one of its conversions
    estimates.json    what its builds take (bot/machines/estimate_models.py); absent before anything was measured
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from bot.records.base import Record, pattern

Colour = Annotated[str, pattern("#[0-9a-f]{6}", "a colour such as #0b6b5e")]

FOLDER = Path(__file__).parent / "formats"


@dataclass(frozen=True, kw_only=True)
class Look(Record):
    """The look of a format, and the marks of a conversion to it, from look.toml.

    ``position`` orders formats wherever rows of several are listed. ``shape`` is of its marks in charts, and three
    colours (CSS) are: ``colour`` on a light page, ``dark_colour`` on a dark one, and ``middle_colour`` in pictures,
    which lie on either. ``repo_names`` are what conversions to it call themselves in the name of a repo, and
    ``repo_tags`` the tags, which no original has. ``file_tags`` are tags that say which files a repo holds: a card
    takes over none of them from the source's. ``code_keys`` are keys of a configuration that make its runtime load
    code.
    """

    position: int
    colour: Colour
    dark_colour: Colour
    middle_colour: Colour
    shape: Literal["circle", "square", "triangle", "diamond", "pentagon", "star"]
    repo_names: tuple[str, ...]
    repo_tags: tuple[str, ...] = ()
    file_tags: tuple[str, ...] = ()
    code_keys: tuple[str, ...] = ()


def names() -> list[str]:
    """Return the names of all formats, in alphabetical order: those of the folders that hold a format.py."""
    return sorted(file.parent.name for file in FOLDER.glob("*/format.py"))


def file_of(name: str, file: str) -> Path:
    """Return the path of a file of a format's folder, which may not be there."""
    return FOLDER / name / file


@cache
def look(name: str) -> Look:
    """Return how a format is shown. Raises MalformedRecordError for a look.toml that is not a Look."""
    return Look.from_json(tomllib.loads(file_of(name, "look.toml").read_text(encoding="utf-8")))


@cache
def on_device(name: str, device: str) -> dict[str, object]:
    """Return what a format's devices.toml says of a device; nothing where it has no such file, or no such table."""
    file = file_of(name, "devices.toml")
    said = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return dict(said.get(device, {}))


def looks() -> dict[str, Look]:
    """Return how each format is shown, in the order in which rows of several are listed."""
    found = {name: look(name) for name in names()}
    return dict(sorted(found.items(), key=lambda item: (item[1].position, item[0])))


def rows() -> Iterator[dict[str, object]]:
    """Yield the rows of all variants.toml, in that order of the formats, as they are written."""
    for name in looks():
        yield from tomllib.loads(file_of(name, "variants.toml").read_text(encoding="utf-8"))["variant"]


def sized_rows() -> Iterator[dict[str, object]]:
    """Yield the rows of all sized.toml, in the same way."""
    for name in looks():
        file = file_of(name, "sized.toml")
        yield from tomllib.loads(file.read_text(encoding="utf-8"))["sized"] if file.exists() else ()
