"""What checking a repo found: records, for people and for programs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bot.errors import SourceError, TokenError, UnknownModelError, UnknownRevisionError
from bot.records.artifacts import Commit, Record

Outcome = Literal["proven", "contradicted", "open", "note"]
#: What somebody else's repo may be: gone, hidden, or not a model that is read here. Then something stays open.
NOT_SEEN = (UnknownModelError, UnknownRevisionError, TokenError, SourceError)
_NAMED = 3  # files or differences in a line
_LONGEST, _LONGEST_NAMES = 500, 200  # characters of a detail, and of the names of files in it: strangers chose them


@dataclass(frozen=True, kw_only=True)
class Finding(Record):
    """One thing that was looked at: what it is ``about``, how it came out, and the ``detail`` in words.

    ``open`` is neither proven nor contradicted; ``note`` is worth knowing, and no proof of anything.
    """

    about: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, kw_only=True)
class CheckReport(Record):
    """All that was found of a repo at a commit."""

    repo_id: str
    commit: Commit
    findings: tuple[Finding, ...]

    @property
    def contradicted(self) -> tuple[Finding, ...]:
        """What is not as it is said to be."""
        return tuple(f for f in self.findings if f.outcome == "contradicted")


def proven(about: str, detail: str) -> Finding:
    """Return that something is as it is said to be."""
    return _finding(about, "proven", detail)


def contradicted(about: str, detail: str) -> Finding:
    """Return that something is not as it is said to be."""
    return _finding(about, "contradicted", detail)


def left_open(about: str, detail: str) -> Finding:
    """Return that nothing can be said of something."""
    return _finding(about, "open", detail)


def note(about: str, detail: str) -> Finding:
    """Return something that is worth knowing."""
    return _finding(about, "note", detail)


def _finding(about: str, outcome: Outcome, detail: str) -> Finding:
    return Finding(about=about, outcome=outcome, detail=_cut(detail, _LONGEST))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def some(items: Iterable[str]) -> str:
    """Name the first of many."""
    named = list(items)
    more = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def together(by_file: Mapping[str, Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what was found of several files: what is the same of many, once, with their names."""
    files: dict[Finding, list[str]] = {}
    for path, found in by_file.items():
        for finding in found:
            files.setdefault(finding, []).append(path)
    for finding, paths in files.items():
        named = "all files" if len(paths) == len(by_file) > 1 else some(paths)
        where = f" ({_cut(named, _LONGEST_NAMES)})"
        yield _finding(finding.about, finding.outcome, _cut(finding.detail, _LONGEST - len(where)) + where)
