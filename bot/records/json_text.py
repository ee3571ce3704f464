"""JSON texts of strangers: bounds on nesting, and no half characters."""

import json

from bot.records.base import Json

_DEPTH = 100  # levels of nesting: what walks through a value is recursive. A config.json has 64 at most


def parse(text: str) -> Json:
    """Return the value of a JSON text. Raises ValueError for one that is none, too deep, or holds half a character."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if is_deeper(value, _DEPTH):
        raise ValueError(f"it is nested more than {_DEPTH} levels deep")
    if "\\ud" in text.lower() and not is_unicode(value):
        raise ValueError("it holds half a surrogate pair, which is not text")
    return value


def is_deeper(value: Json, levels: int) -> bool:
    """Say whether objects and lists are nested more than so many levels deep."""
    level = [value]
    for _ in range(levels):
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [v for values in inner for v in values if isinstance(v, dict | list)]
    return bool(level)


def is_unicode(value: Json) -> bool:
    """Say whether no string has half of a surrogate pair: JSON can hold one, and no file or terminal takes it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
