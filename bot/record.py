"""Frozen dataclasses that read and write JSON: the base of bot/records.py.

``to_json`` and ``from_json`` are inverse on every record. ``from_json`` refuses unknown and missing keys, wrong types
and wrong shapes, naming the path (``$.files[2].size``): a record may be another version's, or a stranger's.
"""

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

Json = Any  # a value that json.dumps takes

_DEPTH = 100  # levels of nesting: what walks through a value is recursive. A config.json has 64 at most


class MalformedRecordError(ValueError):
    """JSON that is not the record it should be; the message names the path of the first difference."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a string has to look like, whole, to be read."""

    pattern: str
    words: str


Sha256 = Annotated[str, Shape(pattern="[0-9a-f]{64}", words="a sha256 in hex")]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What all records share: JSON in and out."""

    def to_json(self) -> dict[str, Json]:
        """Return the record as JSON objects, lists, strings, numbers and null."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read what ``to_json`` wrote.

        Raises MalformedRecordError on a missing or unknown key or a value of another type.
        """
        return typing.cast("Self", _read(cls, value, "$"))


def parse(text: str) -> Json:
    """Return the value of a JSON text. Raises ValueError for one that is none, too deep, or holds half a character.

    Half of a surrogate pair can be written in JSON, and then neither printed nor written to a file.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(_DEPTH):
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [v for values in inner for v in values]
    if level:
        raise ValueError(f"it is nested more than {_DEPTH} levels deep")
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it holds half a surrogate pair, which is no text") from error
    return value


def _plain(value: Any) -> Json:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _read(hint: Any, value: Json, path: str) -> Any:
    if hint is Any:
        return _plain(value)  # a copy
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        _expect(value, args[0], path)
        if not re.fullmatch(args[1].pattern, value):
            raise MalformedRecordError(f"{path} is {_shown(value)}, not {args[1].words}")
        return value
    if origin is typing.Literal:
        if value in args:
            return value
        raise MalformedRecordError(f"{path} is {_shown(value)}, not one of {', '.join(map(repr, args))}")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _read(next(a for a in args if a is not type(None)), value, path)
    if origin is tuple:
        _expect(value, list, path)
        return tuple(_read(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        _expect(value, dict, path)
        return {k: _read(args[1], v, _inside(path, k)) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return _read_record(hint, value, path)
    if hint is float:
        return _read_float(value, path)
    _expect(value, hint, path)
    return value


def _read_record(cls: Any, value: Json, path: str) -> Any:
    _expect(value, dict, path)
    hints, required = fields_of(cls)
    for key in value:
        if key not in hints:
            raise MalformedRecordError(f"{_inside(path, key)} is unknown; {cls.__name__} has {', '.join(hints)}")
    for name in required:
        if name not in value:
            raise MalformedRecordError(f"{path}.{name} is missing")
    return cls(**{k: _read(hints[k], v, f"{path}.{k}") for k, v in value.items()})


@cache
def fields_of(cls: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the types of a record's fields, and the names of those without a default."""
    missing = dataclasses.MISSING
    required = (f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing)
    return typing.get_type_hints(cls, include_extras=True), tuple(required)


def _read_float(value: Json, path: str) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise MalformedRecordError(f"{path} is too large, not a finite number") from None
    _expect(value, float, path)
    if not math.isfinite(value):
        raise MalformedRecordError(f"{path} is {value}, not a finite number")
    return typing.cast("float", value)


_IN_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _expect(value: Json, kind: type, path: str) -> None:
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise MalformedRecordError(f"{path} is {_IN_WORDS.get(type(value), 'null')}, not {_IN_WORDS[kind]}")


def _inside(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() and len(key) < 40 else f"{path}[{_shown(key)}]"


def _shown(value: Json) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
