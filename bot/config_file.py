"""Frozen dataclasses that describe a TOML file, and reading it, with errors that name the line.

A class is a table, its docstring says what the table is for, and each field is a table or has ``key`` as metadata. A
field ``dict[str, CLASS]`` is tables with names of the person's own; its ``key`` says what names may be. A field without
a default has to be set. bot/config_schema.py writes the schema and the text of such a file.
"""

import dataclasses
import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bot.errors import ConfigError
from bot.printable import printable

T = TypeVar("T")
ANY_NAME = "NAME"  #: in the path of a key, where a person names the table
Wrong = Callable[[str], ConfigError]  # turns what is wrong ("is 3; allowed is …") into the error to raise


@dataclass(frozen=True, kw_only=True)
class Key:
    """What a key may hold, beyond its type."""

    help: str
    allowed: str  # completes "allowed is …"
    rules: Mapping[str, Any]  # as a JSON schema says them: pattern, minimum …
    check: Callable[[Any], str | None] | None  # says what is wrong ("is no URL") where no schema can
    example: Any  # shown where the default depends on the machine
    init: Any = None  # what the file that `phi-bot init` writes sets, where that is not the default


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file as it was read, to say where something in it is wrong."""

    path: Path
    text: str
    hint: str

    def wrong(self, at: tuple[str, ...], complaint: str) -> ConfigError:
        """Return the error that the key ``at`` is wrong."""
        return self.error(line_of(self.text, at), complaint)

    def error(self, line: int, complaint: str) -> ConfigError:
        """Return the error that something on a line is wrong."""
        return ConfigError(f"{self.path}:{line}: {complaint}", hint=self.hint)


def key(
    help: str,  # noqa: A002 - as argparse and click call it
    *,
    allowed: str,
    rules: Mapping[str, Any] | None = None,
    check: Callable[[Any], str | None] | None = None,
    example: Any = None,
    init: Any = None,
) -> dict[str, Key]:
    """Describe a key: the metadata of its field."""
    return {"key": Key(help=help, allowed=allowed, rules=rules or {}, check=check, example=example, init=init)}


def parse(path: Path, *, hint: str) -> tuple[dict[str, Any], Source]:
    """Read a TOML file. Raises ConfigError if it cannot be read or is no TOML."""
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
    """Read the text of a TOML file that is called ``name``. Raises ConfigError if it is no TOML."""
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


def read(cls: type[T], data: Mapping[str, Any], source: Source) -> T:
    """Read a file into its class. Raises ConfigError for an unknown key or a wrong value."""

    def read_table(table: type, values: Mapping[str, Any], at: tuple[str, ...]) -> Any:
        hints = typing.get_type_hints(table)
        result: dict[str, Any] = {}
        for name, value in values.items():
            here = (*at, name)
            if name not in hints:
                raise source.wrong(here, _unknown(here, list(hints), cls))
            if named := table_by_name(hints[name]):
                result[name] = {
                    k: read_table(named, _table(v, source, (*here, k)), (*here, k))
                    for k, v in _table(value, source, here).items()
                    if _check_name(table, k, source, here)
                }
            elif dataclasses.is_dataclass(hints[name]):
                result[name] = read_table(typing.cast("type", hints[name]), _table(value, source, here), here)
            else:
                result[name] = _read_key(table, value, source, here)
        for name in required(table):
            if name not in result:
                _, rule = hint_and_key(table, name)
                raise source.wrong(at, f"[{'.'.join(at)}] has no {name}; allowed is {rule.allowed}")
        return table(**result)

    return typing.cast("T", read_table(cls, data, ()))


def _table(value: Any, source: Source, at: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise source.wrong(at, f"{'.'.join(at)} is {_shown(value)}; allowed is a table [{'.'.join(at)}]")
    return value


def _check_name(cls: type, name: str, source: Source, at: tuple[str, ...]) -> bool:
    """Check the name that a person gave to a table. Raises ConfigError."""
    _, rule = hint_and_key(cls, at[-1])
    if (bad := _outside(rule.rules, name)) is not None:
        raise source.wrong((*at, name), f"a table in [{'.'.join(at)}] {bad}; allowed is {rule.allowed}")
    return True


def _read_key(cls: type, value: Any, source: Source, at: tuple[str, ...]) -> Any:
    return read_value(cls, at[-1], value, lambda complaint: source.wrong(at, f"{'.'.join(at)} {complaint}"))


def read_value(cls: type, name: str, value: Any, wrong: Wrong) -> Any:
    """Check the value of one key and return it as its field holds it. Raises what ``wrong`` makes of a complaint."""
    hint, rule = hint_and_key(cls, name)
    schema = schema_of(hint, rule)
    try:
        result = _converted(hint, value)
    except TypeError:
        raise wrong(f"is {_shown(value)}; allowed is {rule.allowed}") from None
    if rule.check and (complaint := rule.check(result)):
        raise wrong(f"{complaint}; allowed is {rule.allowed}")
    if (bad := _outside(schema, value)) is not None:
        raise wrong(f"{bad}; allowed is {rule.allowed}")
    return result


def keys(cls: type, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """Return the path of every key, with the class that it is in, in the order of the fields.

    ANY_NAME stands in it where a person names the table.
    """
    for name, hint in typing.get_type_hints(cls).items():
        if named := table_by_name(hint):
            yield from keys(named, (*at, name, ANY_NAME))
        elif dataclasses.is_dataclass(hint):
            yield from keys(typing.cast("type", hint), (*at, name))
        else:
            yield (*at, name), cls


def line_of(text: str, at: tuple[str, ...]) -> int:
    """Return the number of the line on which a valid TOML text first sets a key (or opens a table).

    Statements of TOML end with a line. So the key is in the statement that ends the shortest part of the text that is
    TOML by itself and has the key; it begins after the longest shorter one.
    """
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


# ---- values --------------------------------------------------------------------------------------------------


def field_of(cls: type, name: str) -> "dataclasses.Field[Any]":
    """Return a field of a dataclass by its name."""
    return next(f for f in dataclasses.fields(cls) if f.name == name)


def hint_and_key(cls: type, name: str) -> tuple[Any, Key]:
    """Return the type of a key's value, and the key's description."""
    hint = typing.get_type_hints(cls)[name]
    if isinstance(hint, types.UnionType):  # TYPE | None: None is the absence of the key
        hint = typing.get_args(hint)[0]
    return hint, field_of(cls, name).metadata["key"]


def table_by_name(hint: Any) -> type | None:
    """Return the class of tables that a person names, or None for any other type."""
    return typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None


def required(cls: type) -> list[str]:
    """Return the keys that have to be set."""
    missing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing]


def schema_of(hint: Any, rule: Key) -> dict[str, Any]:
    """Return the JSON schema of a key's value."""
    if typing.get_origin(hint) is tuple:
        items = {"type": _JSON_TYPES[typing.get_args(hint)[0]], **rule.rules.get("items", {})}
        return {"type": "array", **rule.rules, "items": items}
    return {"type": _JSON_TYPES[hint], **rule.rules}


_JSON_TYPES = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean"}


def _converted(hint: Any, value: Any) -> Any:
    """Return a TOML value as a field holds it. Raises TypeError for a value of another type."""
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_converted(typing.get_args(hint)[0], v) for v in value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) in (int, float):
        return float(value)
    if type(value) is hint:  # not isinstance: true is no number
        return value
    raise TypeError


def _outside(schema: Mapping[str, Any], value: Any) -> str | None:
    """Say what a value of the right type is, if it is outside the rules of its schema."""
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            return "is an empty list"
        complaints = (_outside(schema["items"], v) for v in value)
        return next((f"has {c.removeprefix('is ')}" for c in complaints if c), None)
    if isinstance(value, str):
        inside = len(value) >= schema.get("minLength", 0) and re.fullmatch(schema.get("pattern", "(?s:.*)"), value)
    else:
        low, above, high = (schema.get(k) for k in ("minimum", "exclusiveMinimum", "maximum"))
        inside = not (low is not None and not value >= low) and not (above is not None and not value > above)
        inside = inside and not (high is not None and not value <= high)
    return None if inside else f"is {_shown(value)}"


def _shown(value: Any) -> str:
    """Return a value as an error shows it: on one line, and not at any length."""
    if isinstance(value, str | bool | int | float):
        text = printable(json.dumps(value, ensure_ascii=False))
        return text if len(text) <= 60 else f"{text[:57]}…"
    if isinstance(value, dict):
        return "a table"
    return "a list of something else" if isinstance(value, list) else "a date or a time"


def _unknown(at: tuple[str, ...], siblings: list[str], root: type) -> str:
    *table, name = at
    where = f"in [{'.'.join(table)}]" if table else "at the top"
    message = f"unknown key {_shown(name)} {where}"
    if near := difflib.get_close_matches(name, siblings, n=1):
        message += f"; did you mean {near[0]}?"
    elif elsewhere := [".".join(path[:-1]) for path, _ in keys(root) if path[-1] == name]:
        message += f"; it belongs in [{elsewhere[0]}]."
    else:
        message += "."
    return f"{message} Allowed {'are' if table else 'are the tables'} {', '.join(siblings)}"
