"""Read records that another version of the bot wrote: what is not known here is left out, all else read strictly."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from bot.compare.child import ChildError
from bot.record import Json, Record, fields_of, parse

R = TypeVar("R", bound=Record)

_FILE_BYTES = 16 << 20


def read(kind: type[R], text: str) -> R:
    """Return the record that a side printed. Raises ChildError for what is none."""
    try:
        return kind.from_json(known(kind, parse(text)))
    except ValueError as error:
        raise ChildError(f"what it says cannot be read: {error}") from error


def read_file(kind: type[R], path: Path) -> R:
    """Return the record in a file that a side wrote. Raises ChildError for what is none, or larger than 16 MiB."""
    try:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > _FILE_BYTES:
            raise ChildError(f"{path.name} is no file of a record")
        return read(kind, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChildError(f"{path.name} cannot be read: {error.strerror}") from error


def known(hint: Any, value: Json) -> Json:
    """Return a JSON value without the keys that a record does not have here."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints, _ = fields_of(hint)
        return {k: known(hints[k], v) for k, v in value.items() if k in hints}
    if origin is tuple and isinstance(value, list):
        return [known(args[0], v) for v in value]
    if origin in (typing.Union, types.UnionType):
        return known(next(a for a in args if a is not type(None)), value)
    return value
