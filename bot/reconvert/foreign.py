"""Read records that another version of the bot wrote: what is not known here is left out, all else read strictly."""

import typing
from pathlib import Path
from typing import TypeVar

from bot.reconvert.child import ChildError
from bot.records import base
from bot.records.base import Record
from bot.records.json_text import parse

R = TypeVar("R", bound=Record)

_FILE_BYTES = 16 << 20


def read(kind: type[R], text: str) -> R:
    """Return the record that a side printed. Raises ChildError for what is none."""
    try:
        return typing.cast("R", base.read(kind, parse(text), strict=False))
    except ValueError as error:
        raise ChildError(f"what it says cannot be read: {error}") from error


def read_file(kind: type[R], path: Path) -> R:
    """Return the record in a file that a side wrote. Raises ChildError for what is none, or larger than 16 MiB."""
    try:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > _FILE_BYTES:
            raise ChildError(f"{path.name} is not a file that a record consists of")
        return read(kind, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChildError(f"{path.name} cannot be read: {error.strerror}") from error
