"""JSON of a stranger's model, read so that it has one meaning: the one reader of every JSON file of a source.

Two readers may take different ones of doubled keys, and NaN and Infinity are not JSON. A byte order mark at the
beginning is passed over: some editors write one, and ``stage`` leaves it out of what toolchains read.
"""

import codecs
import json
import math
from pathlib import Path
from typing import Never

from bot.records.base import Json
from bot.records.json_text import is_deeper, is_unicode

_DEPTH = 64  # levels of nesting; our own walks through a value are recursive


def read_object(path: Path, *, limit: int) -> dict[str, Json]:
    """Read a file that holds one JSON object. Raises ValueError, saying what it is instead, and OSError."""
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"has {size} bytes, more than {limit}")
    return parse_object(path.read_bytes())


def parse_object(data: bytes) -> dict[str, Json]:
    """Parse one JSON object. Raises ValueError, saying what it is instead."""
    if is_lfs_pointer(data):
        raise ValueError("is a Git LFS pointer, not the file itself (`git lfs pull` fetches it)")
    try:
        value = parse(without_mark(data))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({str(error)[:100]})") from error
    if not isinstance(value, dict):
        raise ValueError(f"is not a JSON object but a {type(value).__name__}")
    if is_deeper(value, _DEPTH):
        raise ValueError(f"is nested more than {_DEPTH} levels deep")
    if b"\\ud" in data.lower() and not is_unicode(value):
        raise ValueError("holds half a surrogate pair, which is not text")
    return value


def parse(data: bytes) -> Json:
    """Parse JSON of any kind. Raises ValueError for what has no or two meanings, and RecursionError."""
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_without_duplicates,
        parse_constant=_no_number,
        parse_float=_finite,
    )


def without_mark(data: bytes) -> bytes:
    """Return the content of a text file without the byte order mark at its beginning."""
    return data.removeprefix(codecs.BOM_UTF8)


def is_lfs_pointer(start: bytes) -> bool:
    """Say whether a file begins like what Git leaves in place of a large file."""
    return start.startswith(b"version https://git-lfs")


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"a key is given twice: {twice[:40]!a}")
    return found


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value
