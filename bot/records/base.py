"""Frozen dataclasses that read and write JSON: the base of all records, and the reader of phi-bot.toml too.

A field's type says all that may be in it: ``Literal`` for closed words, ``Annotated`` with rules for what else there is
to say. From it come the reading, the words of its errors, and the JSON Schema (bot/records/schema.py). ``to_json`` and
``from_json`` are inverse on every record. Unknown and missing keys, other types and other values are refused, naming
the path (``$.files[2].size``): a record may be another version's, or a stranger's.
"""

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

Json = Any  # a value that json.dumps takes
At = tuple[str | int, ...]  #: keys and indices that lead to a value

OBJECT, _MISSING = "an object", "is missing"
_SHOWN = 60  # characters of a value in an error
_BARE = re.compile(r"[A-Za-z0-9_-]{1,40}")


class MalformedRecordError(ValueError):
    """A value that is not what it should be.

    ``path`` leads to the first difference, ``said`` says what is there ("is 3"), and ``allowed`` what may be ("" where
    ``said`` says that too). For an unknown key, ``known`` are those that there are.
    """

    def __init__(self, path: At, said: str, allowed: str = "", *, known: tuple[str, ...] = ()) -> None:
        self.path, self.said, self.allowed, self.known = path, said, allowed, known
        wrong = f"{said}, not {allowed}" if allowed and said != _MISSING else said
        super().__init__(f"{path_text(path, root='$')} {wrong}")


# ---- what may be in a field ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """A rule beyond a type, in ``Annotated``. ``whole`` says that a complaint tells all there is."""

    complaint: Callable[[Any], str | None]  #: says what a value of the right type is ("is 3") that is not taken
    described: Callable[[str], str] = str  #: makes words for what is allowed of those for the type alone
    schema: Mapping[str, Json] = field(default_factory=dict)
    whole: bool = False


def pattern(regex: str, allowed: str) -> Rule:
    """Return what a string has to look like, whole; ``allowed`` completes "allowed is …"."""
    return Rule(
        complaint=lambda value: None if re.fullmatch(regex, value) else f"is {shown_value(value)}",
        described=lambda _: allowed,
        schema={"pattern": f"^(?:{regex})$"},
    )


def bounds(low: float | None = None, high: float | None = None, *, above: float | None = None, unit: str = "") -> Rule:
    """Return the least and the largest number that may be there, or the one that it has to be ``above``."""

    def inside(value: float) -> bool:
        return (low is None or value >= low) and (above is None or value > above) and (high is None or value <= high)

    if low is not None:
        said = f", {low} or above" if high is None else f" from {low} to {high}"
    else:
        said = (f" above {above}" if above is not None else "") + (f" up to {high}" if high is not None else "")
    limits = {"minimum": low, "exclusiveMinimum": above, "maximum": high}
    return Rule(
        complaint=lambda value: None if inside(value) else f"is {shown_value(value)}",
        described=lambda allowed: f"{allowed}{said}{', in ' if unit else ''}{unit}",
        schema={name: limit for name, limit in limits.items() if limit is not None},
    )


def named(names: Callable[[], tuple[str, ...]]) -> Rule:
    """Return that a string is one of some names, which a table has: it is asked when there is something to check."""

    def allowed() -> str:
        *most, last = map(json.dumps, names())
        return f"{', '.join(most)} or {last}" if most else last

    return Rule(
        complaint=lambda value: None if value in names() else f"is {shown_value(value)}",
        described=lambda _: allowed(),
        schema={"enum": list(names())},
    )


def check(finds: Callable[[Any], str | None]) -> Rule:
    """Return what no schema can say, as whether there is such a host: ``finds`` says what a wrong value is."""
    return Rule(complaint=finds)


def of_version(number: int) -> Rule:
    """Return the version of a record that is read here. It is looked at first: in another one all else may differ."""

    def complaint(value: int) -> str | None:
        which = "a newer" if value > number else "an older"
        return None if value == number else f"is {value}, not {number}: {which} phi-bot wrote this"

    return Rule(complaint=complaint, schema={"const": number}, whole=True)


NOT_EMPTY = Rule(
    complaint=lambda value: None if value else "is an empty list",
    described=lambda allowed: allowed.replace("a list of", "a list with one or more of", 1),
    schema={"minItems": 1},
)

Sha256 = Annotated[str, pattern("[0-9a-f]{64}", "a sha256 in hex")]


def words(hint: Any) -> str:
    """Return what a value of a type may be, in words that complete "allowed is …"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        allowed = words(args[0])
        for rule in args[1:]:
            allowed = rule.described(allowed)
        return allowed
    if origin is typing.Literal:
        *most, last = (json.dumps(a) for a in args)
        return f"{', '.join(most)} or {last}" if most else last
    if origin in (typing.Union, types.UnionType):
        return words(optional_type(args))
    if origin is tuple:
        return "a list" if dataclasses.is_dataclass(args[0]) else f"a list of: {words(args[0])}"
    return OBJECT if origin is dict or dataclasses.is_dataclass(hint) else _WORDS[hint]


_WORDS = {str: "a string", Path: "a path", int: "a whole number", float: "a number", bool: "true or false", Any: "any"}


# ---- reading and writing -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """The base of all records: JSON in and out."""

    def to_json(self) -> dict[str, Json]:
        """Return the record as JSON objects, lists, strings, numbers and null."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read what ``to_json`` wrote.

        Raises MalformedRecordError on a missing or unknown key or a value of another type.
        """
        return typing.cast("Self", read(cls, value))


def read(hint: Any, value: Json, *, strict: bool = True) -> Any:
    """Return a JSON value, or one of TOML, as a dataclass (or any other type that its fields may have).

    Keys that a dataclass does not have are refused or, unless ``strict``, left out. Raises MalformedRecordError.
    """
    return _read(hint, value, (), strict)


def _plain(value: Any) -> Json:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def _read(hint: Any, value: Json, path: At, strict: bool, whole: Any = None) -> Any:
    """Read a value. ``whole`` is the type with its rules, if it has any."""
    if hint is Any:
        return _plain(value)  # a copy
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    whole = whole or hint
    if origin is Annotated:
        found = _read(args[0], value, path, strict, hint)
        for rule in args[1:]:
            if said := rule.complaint(value):
                raise MalformedRecordError(path, said, "" if rule.whole else words(hint))
        return found
    if origin is typing.Literal:
        if value in args:
            return value
        raise _wrong(path, value, whole)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _read(optional_type(args), value, path, strict)
    kind = {tuple: list, Path: str}.get(origin or hint, origin or hint)
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, path, strict)
    if kind is float:
        return _read_float(value, path, whole)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise _wrong(path, value, whole)
    if kind is list:
        return tuple(_read(args[0], v, (*path, i), strict) for i, v in enumerate(value))
    if kind is dict:
        for name in value if args[0] is not str else ():
            _read(args[0], name, (*path, name), strict)
        return {k: _read(args[1], v, (*path, k), strict) for k, v in value.items()}
    return Path(value) if hint is Path else value


def _read_fields(cls: Any, value: Json, path: At, strict: bool) -> Any:
    if not isinstance(value, dict):
        raise _wrong(path, value, cls)
    hints, required = fields_of(cls)
    found = {}
    if "version" in hints and "version" in value:
        found["version"] = _read(hints["version"], value["version"], (*path, "version"), strict)
    for name in value if strict else ():
        if name not in hints:
            said = f"is unknown; {cls.__name__} has {', '.join(hints)}"
            raise MalformedRecordError((*path, name), said, known=tuple(hints))
    found |= {k: _read(hints[k], v, (*path, k), strict) for k, v in value.items() if k in hints}
    for name in required:
        if name not in value:
            raise MalformedRecordError((*path, name), _MISSING, words(hints[name]))
    return cls(**found)


@cache
def fields_of(cls: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the types of a record's fields, and the names of those without a default."""
    missing = dataclasses.MISSING
    required = (f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing)
    return typing.get_type_hints(cls, include_extras=True), tuple(required)


def _read_float(value: Json, path: At, whole: Any) -> float:
    try:
        number = float(value) if type(value) in (int, float) else None
    except OverflowError:
        number = math.inf
    if number is None:
        raise _wrong(path, value, whole)
    if not math.isfinite(number):
        raise MalformedRecordError(
            path, f"is {shown_value(value)}", words(whole).replace("a number", "a finite number", 1)
        )
    return number


def optional_type(args: tuple[Any, ...]) -> Any:
    """Return the type of ``X | None`` that is not None."""
    return next(a for a in args if a is not type(None))


def _wrong(path: At, value: Json, whole: Any) -> MalformedRecordError:
    return MalformedRecordError(path, f"is {shown_value(value)}", words(whole))


def shown_value(value: Any) -> str:
    """Return a value as an error shows it: on one line, with nothing hidden, and not at any length."""
    if isinstance(value, dict | list):
        return OBJECT if isinstance(value, dict) else "a list"
    if value is None or not isinstance(value, str | int | float):
        return "null" if value is None else "a date or a time"
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return f"a number of more than {_SHOWN} digits"
    text = json.dumps(value[:_SHOWN] if isinstance(value, str) else value, ensure_ascii=False)
    text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}…"


def path_text(path: At, *, root: str = "") -> str:
    """Return a path as people write it: ``$.files[2].size`` below the root ``$``."""
    for part in path:
        bare = isinstance(part, str) and _BARE.fullmatch(part)
        root += f".{part}" if bare else f"[{part if isinstance(part, int) else shown_value(part)}]"
    return root.removeprefix(".")
