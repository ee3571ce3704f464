"""A Config as the text of a ``phi-bot.toml``: how it travels to another machine."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.config import Config

_OF_THE_MACHINE = frozenset({"build.work", "build.threads"})


def text_of(config: Config) -> str:
    """Return what ``config.load`` reads the same Config from, but for what belongs to the machine at hand.

    That is the working folder and the number of threads: the machine that reads it has its own.
    """
    return "\n".join(_table("", config)).lstrip("\n") + "\n"


def _table(name: str, table: Any) -> Iterator[str]:
    """Yield the lines of a table: its own keys, then the tables in it."""
    pairs = table.items() if isinstance(table, dict) else [(f.name, getattr(table, f.name)) for f in _fields(table)]
    nested = [(key, value) for key, value in pairs if dataclasses.is_dataclass(value) or isinstance(value, dict)]
    plain = [(key, value) for key, value in pairs if (key, value) not in nested]
    lines = [f"{key} = {_value(value)}" for key, value in plain if value is not None and _travels(name, key)]
    if lines:
        yield from (["", f"[{name}]"] if name else [])
        yield from lines
    for key, value in nested:
        yield from _table(f"{name}.{_key(key)}" if name else _key(key), value)


def _travels(table: str, key: str) -> bool:
    return f"{table}.{key}" not in _OF_THE_MACHINE


def _fields(table: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(table)


def _key(text: str) -> str:
    return text if text.replace("_", "").isalnum() and text.isascii() else _value(text)


def _value(value: Any) -> str:
    if isinstance(value, Path):
        value = str(value)
    # JSON's texts, numbers, lists and truth values are TOML's too, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
