"""The patterns of .gitignore and .gitattributes, as git matches them (gitignore(5), gitattributes(5)).

A stranger writes them, so none may cost more than its length times that of a path: no part of a match is tried twice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_DEEP = None  # stands for '**': any number of folders
_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "digit": "0-9", "lower": "a-z", "space": "\\s",
    "upper": "A-Z", "xdigit": "0-9A-Fa-f", "punct": "!-/:-@\\[-`{-~", "cntrl": "\\x00-\\x1f\\x7f", "print": " -~",
    "graph": "!-~",
}  # fmt: skip

_Segment = re.Pattern[str] | None


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A pattern, relative to the folder of the file that it stands in.

    ``anywhere`` is of one without a slash: it is held against the last name of a path alone.
    """

    segments: tuple[_Segment, ...]
    anywhere: bool
    folders_only: bool

    def matches(self, path: str, *, folder: bool = False) -> bool:
        """Say whether it fits a path, which has no slash at its ends."""
        if self.folders_only and not folder:
            return False
        parts = path.split("/")
        return _fits(self.segments, parts[-1:] if self.anywhere else parts)


def parse(text: str) -> Pattern | None:
    """Return a pattern as it is written, without a leading '!'; None for one that fits nothing."""
    folders_only, text = text.endswith("/"), text.removesuffix("/")
    anywhere = "/" not in text
    words = _words(text.removeprefix("/"))
    if words == [""] or (not anywhere and "" in words):
        return None
    if not anywhere and words[-1] == "**":
        words.append("*")  # all that is in a folder, and not the folder itself
    found = [_DEEP if w == "**" and not anywhere else _segment(w) for w in words]
    if any(s is None and w != "**" for s, w in zip(found, words, strict=True)):
        return None
    return Pattern(segments=tuple(found), anywhere=anywhere, folders_only=folders_only)


def _words(text: str) -> list[str]:
    """Split a pattern at its slashes; one in a set of characters splits nothing."""
    words, start, i = [], 0, 0
    while i < len(text):
        if text[i] == "/":
            words.append(text[start:i])
            start = i + 1
        elif text[i] == "[" and (made := _bracket(text, i)):
            i = made[1]
        i += 2 if text[i] == "\\" else 1
    return [*words, text[start:]]


def _fits(segments: Sequence[_Segment], parts: Sequence[str]) -> bool:
    at = deep = mark = 0
    seen_deep = False
    i = 0
    while i < len(parts):
        segment = segments[at] if at < len(segments) else _DEEP
        if at < len(segments) and segment is _DEEP:
            seen_deep, deep, mark = True, at, i
            at += 1
        elif segment is not None and segment.fullmatch(parts[i]):
            at, i = at + 1, i + 1
        elif seen_deep:  # the last '**' takes one folder more; what stands before it fits already
            mark += 1
            at, i = deep + 1, mark
        else:
            return False
    return all(s is _DEEP for s in segments[at:])


@lru_cache(maxsize=4096)
def _segment(text: str) -> re.Pattern[str] | None:
    """Return what fits one name: '*' is greedy from the left, and what was found once is not given up again."""
    fixed, current, i = [], "", 0
    while i < len(text):
        char = text[i]
        if char == "*":
            fixed.append(current)
            current = ""
        elif char == "?":
            current += "."
        elif char == "[":
            made = _bracket(text, i)
            if made is None:
                return None
            current += made[0]
            i = made[1]
        elif char == "\\":
            i += 1
            if i == len(text):
                return None
            current += re.escape(text[i])
        else:
            current += re.escape(char)
        i += 1
    first, *rest = [*fixed, current]
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{f})" for f in rest[:-1] if f)
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def _bracket(text: str, start: int) -> tuple[str, int] | None:
    """Return a set of characters as an expression, and where it ends; None for one that does not end."""
    i, inside = start + 1, ""
    negated = i < len(text) and text[i] in "!^"
    i += negated
    first = True
    while i < len(text) and (first or text[i] != "]"):
        first = False
        if text.startswith("[:", i) and (end := text.find(":]", i)) > 0:
            if (known := _CLASSES.get(text[i + 2 : end])) is None:
                return None
            inside += known
            i = end + 2
            continue
        low, i = _character(text, i)
        high = low
        if i + 1 < len(text) and text[i] == "-" and text[i + 1] != "]":
            high, i = _character(text, i + 1)
        if low is None or high is None:
            return None
        if low <= high:
            inside += f"{re.escape(low)}-{re.escape(high)}"
    if i >= len(text):
        return None
    if not inside:
        return (".", i) if negated else ("(?!)", i)
    return f"[{'^' if negated else ''}{inside}]", i


def _character(text: str, i: int) -> tuple[str | None, int]:
    if text[i] == "\\":
        i += 1
    return (text[i], i + 1) if i < len(text) else (None, i)
