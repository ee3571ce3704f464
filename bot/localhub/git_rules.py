"""The rules in .gitattributes and .gitignore of a repo: which one LFS holds, and which one is left out."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from bot.localhub.patterns import Pattern, parse

MOST_BYTES = 256 * 1024  # of a file with rules; a longer one says nothing
_MOST_RULES = 2000
_ESCAPE = re.compile(r'\\(?:([abfnrtv"\\])|([0-3][0-7]{2}))')
_NAME = re.compile(r"[-!]?(?!builtin_)[A-Za-z0-9_.][A-Za-z0-9_.-]*(=.*)?", re.ASCII)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}
_BUILT_IN = {"binary": ("-diff", "-merge", "-text")}


@dataclass(frozen=True, kw_only=True)
class _Rule:
    pattern: Pattern
    says: tuple[str, ...]  # attributes; nothing for a pattern of .gitignore that leaves out
    kept: bool = False


def is_lfs(files: Mapping[str, str], path: str) -> bool:
    """Say whether LFS is to hold a file, by the texts of the .gitattributes files, by their folders."""
    value: str | bool | None = None
    macros: dict[str, tuple[str, ...]] = dict(_BUILT_IN)
    for text in (files[""],) if "" in files else ():
        macros |= _macros(text)
    for text, inside in _above(files, path):
        for rule in _attributes(text):
            if rule.pattern.matches(inside):
                for word in _spread(rule.says, macros):
                    value = _filter(word, value)
    return value == "lfs"


def is_ignored(files: Mapping[str, str], path: str) -> bool:
    """Say whether git would leave a file out, by the texts of the .gitignore files, by their folders.

    What is in a folder that is left out cannot be taken in again.
    """
    parts = path.split("/")
    return any(
        _left_out(files, "/".join(parts[:count]), folder=count < len(parts)) for count in range(1, len(parts) + 1)
    )


def _left_out(files: Mapping[str, str], path: str, *, folder: bool) -> bool:
    found = False
    for text, inside in _above(files, path):
        for rule in _ignores(text):
            if rule.pattern.matches(inside, folder=folder):
                found = not rule.kept
    return found


def _above(files: Mapping[str, str], path: str) -> list[tuple[str, str]]:
    """Return the texts that speak of a path, and the path as each sees it; what is nearer to it comes later."""
    bases = [base for base in files if not base or path.startswith(f"{base}/")]
    return [(files[base], path[len(base) + 1 :] if base else path) for base in sorted(bases, key=len)]


@lru_cache(maxsize=256)
def _ignores(text: str) -> tuple[_Rule, ...]:
    rules = []
    for line in text.removeprefix("\ufeff").split("\n")[:_MOST_RULES]:
        said = _without_spaces(line.removesuffix("\r"))
        kept = said.startswith("!")
        if said.startswith("#") or not (pattern := parse(said[kept:])):
            continue
        rules.append(_Rule(pattern=pattern, says=(), kept=kept))
    return tuple(rules)


@lru_cache(maxsize=256)
def _attributes(text: str) -> tuple[_Rule, ...]:
    rules = []
    for said, words in _lines(text):
        if not said.startswith(("!", "[attr]")) and (pattern := parse(said)):
            rules.append(_Rule(pattern=pattern, says=tuple(words)))
    return tuple(rules)


def _macros(text: str) -> dict[str, tuple[str, ...]]:
    return {said[6:]: tuple(words) for said, words in _lines(text) if said.startswith("[attr]")}


def _lines(text: str) -> Iterable[tuple[str, list[str]]]:
    """Yield the pattern of each line of .gitattributes, and its attributes."""
    for line in text.removeprefix("\ufeff").split("\n")[:_MOST_RULES]:
        said = line.strip(" \t\r")
        if not said or said.startswith("#"):
            continue
        if said.startswith('"'):
            quoted = re.match(r'"((?:[^"\\]|\\.)*)"(?=[ \t]|$)', said)
            if quoted is None:
                continue
            pattern, words = _ESCAPE.sub(_unescape, quoted[1]), said[quoted.end() :].split()
        else:
            pattern, *words = said.split()
        if all(_NAME.fullmatch(word) for word in words):  # git drops the whole line with a name that is none
            yield pattern, words


def _unescape(found: re.Match[str]) -> str:
    return _LETTERS[found[1]] if found[1] else chr(int(found[2], 8))


def _without_spaces(line: str) -> str:
    """Return a line without the spaces at its end, of which one after a backslash stays."""
    kept = line.rstrip(" ")
    escaped = (len(kept) - len(kept.rstrip("\\"))) % 2 == 1
    return line[: len(kept) + 1] if escaped and len(kept) < len(line) else kept


def _spread(words: Iterable[str], macros: Mapping[str, tuple[str, ...]], depth: int = 0) -> Iterable[str]:
    for word in words:
        yield word
        if word in macros and depth < 4:
            yield from _spread(macros[word], macros, depth + 1)


def _filter(word: str, value: str | bool | None) -> str | bool | None:
    if word.startswith("filter="):
        return word.removeprefix("filter=")
    return {"filter": True, "-filter": False, "!filter": None}.get(word, value)
