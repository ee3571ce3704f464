"""TOML files that are read as frozen dataclasses (see bot/records/base.py), with errors that name the line.

A class is a table, its docstring says what the table is for, and each field is a table or a ``key``. A field
``dict[NAME, CLASS]`` is tables with names of the person's own. A field without a default has to be set.
bot/config/text.py writes the text of such a file, bot/records/schema.py the schema.
"""

import dataclasses
import difflib
import itertools
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bot.errors import ConfigError
from bot.records import base
from bot.records.base import OBJECT, MalformedRecordError, fields_of

T = TypeVar("T")
_NOTHING: Mapping[str, str] = {}
ANY_NAME = "NAME"  #: in the path of a key, where a person names the table


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file as it was read, to say where something in it is wrong."""

    path: Path
    text: str
    hint: str

    def error(self, line: int, complaint: str) -> ConfigError:
        """Return the error that something on a line is wrong."""
        return ConfigError(f"{self.path}:{line}: {complaint}", hint=self.hint)


def key(default: Any, about: str, *, example: Any = None, init: Any = None) -> Any:
    """Return the field of a key, with its purpose. Its type says what it may hold.

    ``example`` is shown where the default is nothing, ``init`` is what the file that `phi-bot init` writes sets.
    """
    return dataclasses.field(default=default, metadata=key_metadata(about, example=example, init=init))


def key_metadata(about: str, *, example: Any = None, init: Any = None) -> dict[str, Any]:
    """Return the metadata of a key that has no default, or one that depends on the machine: see ``key``."""
    return {"help": about, "example": example, "init": init}


def parse(path: Path, *, hint: str) -> tuple[dict[str, Any], Source]:
    """Read a TOML file. Raises ConfigError if it cannot be read or is not TOML."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=hint) from None
    try:
        source = Source(path=path, text=data.decode("utf-8-sig").replace("\r\n", "\n"), hint=hint)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not encoded as UTF-8", hint="Save the file as UTF-8.") from None
    return _parsed(source)


def parse_text(text: str, name: str, *, hint: str) -> tuple[dict[str, Any], Source]:
    """Read the text of a TOML file that is called ``name``. Raises ConfigError if it is not TOML."""
    return _parsed(Source(path=Path(name), text=text, hint=hint))


def _parsed(source: Source) -> tuple[dict[str, Any], Source]:
    try:
        return tomllib.loads(source.text), source
    except ValueError as error:  # tomllib raises more kinds of it than TOMLDecodeError, for an absurdly long number
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        line = int(found[1]) if found and found[1] else source.text.count("\n") + 1
        reason = str(error)[: found.start()] if found else str(error)
        raise source.error(line, f"not TOML: {reason}") from None
    except RecursionError:
        raise source.error(1, "not TOML that can be read: too deeply nested") from None


def read(cls: type[T], data: Mapping[str, Any], source: Source, replaced: Mapping[str, str] = _NOTHING) -> T:
    """Read a file into its class. Raises ConfigError for an unknown key or a wrong value.

    ``replaced`` are the paths of keys that there were once, each with what to set now.
    """
    try:
        return typing.cast("T", base.read(cls, data))
    except MalformedRecordError as error:
        at = tuple(itertools.takewhile(lambda part: isinstance(part, str), error.path))
        name = base.path_text(error.path)
        if error.known:
            complaint = f"{name} is gone: {replaced[name]}" if name in replaced else _unknown(error, cls)
        else:
            complaint = f"{name} {in_words(error)}"
        raise source.error(line_of(source.text, typing.cast("tuple[str, ...]", at)), complaint) from None


def in_words(error: MalformedRecordError) -> str:
    """Say what a key or an option is, and what is allowed."""
    said = "is a table" if error.said == f"is {OBJECT}" else error.said
    allowed = f"a table [{base.path_text(error.path)}]" if error.allowed == OBJECT else error.allowed
    return f"{said}; allowed is {allowed}"


def keys(cls: type, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """Return the path of every key, with the class that it is in, in the order of the fields.

    ANY_NAME stands in it where a person names the table.
    """
    for name, hint in fields_of(cls)[0].items():
        if typing.get_origin(hint) is dict:
            yield from keys(typing.get_args(hint)[1], (*at, name, ANY_NAME))
        elif dataclasses.is_dataclass(hint):
            yield from keys(typing.cast("type", hint), (*at, name))
        else:
            yield (*at, name), cls


def line_of(text: str, at: tuple[str, ...]) -> int:
    """Return the number of the line on which a valid TOML text first sets a key (or opens a table).

    For a missing key, that is the line of the innermost table around it. Statements of TOML end with a line. So the key
    is in the statement that ends the shortest part of the text that is TOML by itself and has the key; it begins after
    the longest shorter one.
    """
    while at and not _has(tomllib.loads(text), at):
        at = at[:-1]
    lines = text.split("\n")
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:end]))
        except ValueError:
            continue  # in the middle of a list or a long string
        if _has(data, at):
            break
        begin = end
    return begin + 1


def _has(data: Any, at: tuple[str, ...]) -> bool:
    for name in at:
        if not isinstance(data, dict) or name not in data:
            return False
        data = data[name]
    return True


def _unknown(error: MalformedRecordError, root: type) -> str:
    *table, name = error.path
    where = f"in [{base.path_text(tuple(table))}]" if table else "at the top"
    message = f"unknown key {base.shown_value(name)} {where}"
    if near := difflib.get_close_matches(str(name), error.known, n=1):
        message += f"; did you mean {near[0]}?"
    elif elsewhere := [".".join(path[:-1]) for path, _ in keys(root) if path[-1] == name]:
        message += f"; it belongs in [{elsewhere[0]}]."
    else:
        message += "."
    return f"{message} Allowed {'are' if table else 'are the tables'} {', '.join(error.known)}"
