"""Text that may come from strangers (names of models and files, messages of servers), made fit to be printed.

Which characters are never shown is decided here, for terminals, logs, Markdown, HTML and JSON alike. Controls steer a
terminal, overrides and marks of direction have a name read as another one, and none of them is seen.
"""

import json
import re
import unicodedata
from typing import Any

_JOINERS = frozenset("\u200c\u200d")  # words of some scripts and emoji need them
_COMMAND = re.compile(r"(?m)^(\s*):(?=:)")
_NOT_PLAIN, _SPECIAL = re.compile(r"[^\n -~]"), re.compile(r"[^\n\t -~]")


def is_hidden(character: str) -> bool:
    """Say whether a character steers what shows it and is not seen itself: controls, marks of direction, surrogates.

    Separators of lines and paragraphs are among them. Joiners are not: words of some scripts need them, and emoji.
    """
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def printable(text: str) -> str:
    """Return a text as one line without control characters: none of it can steer a terminal or fake a second line."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.splitlines()))


def shown(text: str) -> str:
    """Return a text with its lines, in which every character is seen: what is hidden stands there as ``\\u202e``."""
    if text.isprintable():  # most is
        return text
    return _SPECIAL.sub(lambda found: _escape(found[0]) if is_hidden(found[0]) else found[0], text)


def logged(text: str) -> str:
    """Return lines of another program as a log keeps them: as they are shown, and none is a command of GitHub's log.

    A step of a workflow that prints the log would else do what they say: annotate, mask, set what later steps read.
    """
    return _COMMAND.sub(lambda found: f"{found[1]}\\u003a", shown(text)).replace("##[", "#\\u0023[")


def json_text(value: Any, *, indent: int | None = None, compact: bool = False) -> str:
    """Return a value as JSON that can be read as it stands: what is hidden or not printable is escaped.

    It is the same value. Digests are not taken of this text (``bot.records.digests.digest_of``). With ``compact``, no
    space stands between its parts.
    """
    separators = (",", ":") if compact else None
    text = json.dumps(value, indent=indent, ensure_ascii=False, separators=separators)
    return _NOT_PLAIN.sub(lambda found: found[0] if found[0].isprintable() else _escape(found[0]), text)


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def one_line(text: object) -> str:
    """Return text on one line: white space collapsed, control characters and overrides of direction taken out."""
    line = str(text)
    if not line.isprintable():  # most is, and looking at each character takes ten times what all else does
        kept = (" " if c.isspace() or unicodedata.category(c) == "Cc" else c for c in line)
        line = "".join(c for c in kept if not is_hidden(c))
    return " ".join(line.split())


def size(count: float) -> str:
    """Return bytes in the largest decimal unit that leaves a number of 1 or more: 1234567 is ``1.2 MB``."""
    value = float(count)
    if value < 999.5:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Return seconds as ``0.4 s``, ``12 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
