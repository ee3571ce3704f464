"""Answers of GitHub, read with every value checked: a stranger may have written it, or something else answered."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from bot.errors import GithubError, PhiBotError
from bot.pages.markdown import is_web_address
from bot.records.json_text import is_unicode

COMMIT = re.compile(r"[0-9a-f]{40}")
LOGIN = re.compile(r"[A-Za-z0-9_-]{1,100}(\[bot\])?")
REPOSITORY = re.compile(r"[A-Za-z0-9_-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
HINT = "Is GITHUB_API_URL the address of GitHub's API? If it is, try again later."


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A value out of an answer. ``what`` names the whole for people, ``where`` is the way from there to the value.

    Every reading function raises GithubError where the value is of another kind.
    """

    what: str
    value: object
    where: str = ""

    def __getitem__(self, name: str) -> Self:
        if not isinstance(self.value, dict):
            raise self.wrong("is not an object")
        within = replace(self, value=self.value.get(name), where=f"{self.where}.{name}".lstrip("."))
        if name not in self.value:
            raise within.wrong("is missing")
        return within

    def __iter__(self) -> Iterator[Self]:
        if not isinstance(self.value, list):
            raise self.wrong("is not a list")
        for place, value in enumerate(self.value):
            yield replace(self, value=value, where=f"{self.where}[{place}]")

    def get(self, name: str) -> Self | None:
        """Return what an object has under a name, None where that is null or missing."""
        if isinstance(self.value, dict) and self.value.get(name) is None:
            return None
        return self[name]

    def text(self, pattern: re.Pattern[str] | None = None) -> str:
        """Return a string that can be written anywhere, and that the whole ``pattern`` matches."""
        if not isinstance(self.value, str) or not is_unicode(self.value):
            raise self.wrong("is not text")
        if pattern is not None and not pattern.fullmatch(self.value):
            raise self.wrong(f"is {self.value[:100]!r}")
        return self.value

    def number(self, most: int = 2**63 - 1) -> int:
        """Return a whole number above zero, as GitHub counts, and of ``most`` at most."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.wrong("is not a number")
        if not 0 < self.value <= most:
            raise self.wrong(f"is not a number from 1 to {most}")
        return self.value

    def time(self) -> datetime:
        """Return a moment, with its time zone."""
        try:
            moment = datetime.fromisoformat(self.text())
        except ValueError as error:
            raise self.wrong("is not a time") from error
        if moment.tzinfo is None:
            raise self.wrong("has no time zone")
        return moment

    def address(self) -> str:
        """Return an address on the web."""
        if not is_web_address(self.value):
            raise self.wrong("is not an address")
        return str(self.value)

    def wrong(self, why: str) -> PhiBotError:
        """Return the error for a value that is not what it should be."""
        return GithubError(
            f"GitHub answered something else than {self.what}: {self.where or 'it'} {why}",
            hint=HINT,
        )
