"""The text of a ``phi-bot.toml``: the one that explains every key, and that of a Config as it travels elsewhere."""

import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any

from bot.config.file import ANY_NAME, keys
from bot.records.base import Json, Record

_OF_THE_MACHINE = frozenset({"build.work", "build.threads", "publish.sign.key"})


def template(cls: type) -> str:
    """Return the text of a file that explains every key, and sets those alone that have a value for it."""
    intro = "Remove the # before a key to set it. What is shown is its default, or an example where it has none."
    lines = [*_comment(inspect.getdoc(cls) or ""), *_comment(intro)]
    table: type | None = None
    for at, owner in keys(cls):
        if owner is not table:
            table = owner
            mark = "# " if ANY_NAME in at else ""
            lines += ["", f"{mark}[{'.'.join(at[:-1])}]", *_comment(inspect.getdoc(owner) or "")]
        said = _field(owner, at[-1]).metadata
        line = f"# {at[-1]} = {shown_default(owner, at[-1])}"
        if said.get("init") is not None:
            line = f"{at[-1]} = {_value(said['init'])}"
        lines += [*([""] if said else []), *_comment(said.get("help", "")), line]
    return "\n".join(lines) + "\n"


def shown_default(cls: type, name: str) -> str:
    """Return a key's default in TOML, or an example where the default is nothing or depends on the machine."""
    found = _field(cls, name)
    example = found.metadata.get("example")
    return _value(found.default if example is None else example)


def text_of(config: Record) -> str:
    """Return what ``config.load`` reads the same Config from, but for what belongs to the machine at hand.

    That is the working folder, the number of threads, and the file of the key that signs: the machine that reads it has
    its own, or none.
    """
    return "\n".join(_table("", config.to_json())).lstrip("\n") + "\n"


def _table(name: str, table: dict[str, Json]) -> Iterator[str]:
    """Yield the lines of a table: its own keys, then the tables in it."""
    inside = {f"{name}.{_key(key)}" if name else _key(key): value for key, value in table.items()}
    plain = {at: value for at, value in inside.items() if value is not None and not isinstance(value, dict)}
    lines = [f"{at.removeprefix(f'{name}.')} = {_value(v)}" for at, v in plain.items() if at not in _OF_THE_MACHINE]
    if lines:
        yield from (["", f"[{name}]"] if name else [])
        yield from lines
    for at, value in inside.items():
        if isinstance(value, dict):
            yield from _table(at, value)


def _field(cls: Any, name: str) -> "dataclasses.Field[Any]":
    return next(f for f in dataclasses.fields(cls) if f.name == name)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _key(text: str) -> str:
    return text if text.replace("_", "").isalnum() and text.isascii() else _value(text)


def _value(value: Json) -> str:
    # JSON's texts, numbers, lists and truth values are TOML's too, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
