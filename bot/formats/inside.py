"""What a published file says of the model in it, read on the Hub by a few ranges of bytes: for whoever checks a repo.

A format that packs the whole model into one file has a module ``published`` with ``inside``, which reads its header.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

ReadPart = Callable[[int, int], bytes]  #: returns the bytes of a file from one place up to another, or fewer at its end


class HeaderError(Exception):
    """A header that cannot be read: malformed, or larger than any model's is. One line, for a person."""


class UnknownHeaderError(HeaderError):
    """A header that may be right, but is of a version or of a kind that is not read here."""


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What a file says. All of it is untrusted; None is what it does not say.

    ``tokens`` are in the order of their ids. ``stops`` are ids that end an answer, ``named`` those of them that the
    file itself names, while its runtime knows the others by their text. ``factors`` are LongRoPE's by side (``short``,
    ``long``), ``base`` is that of the rotary angles. ``bases`` are what it says that it was made from. Of a model in
    several ``parts`` it is the first, and tensors may be in the others.
    """

    name: str | None
    license: str | None
    bases: tuple[str, ...]
    template: str | None
    special_tokens: dict[str, str]
    tokens: tuple[str, ...] | None
    stops: frozenset[int]
    named: frozenset[int]
    base: float | None
    factors: dict[str, tuple[float, ...]]
    parts: int = 1


class Reader(Protocol):
    """The module of a format that reads its published files."""

    def inside(self, read: ReadPart, size: int) -> Inside:
        """Return what a file of ``size`` bytes says. Raises HeaderError."""
        ...


def reader_of(format_name: str) -> Reader | None:
    """Return what reads the published files of a format; None where none of its files holds a whole model."""
    name = f"bot.formats.{format_name}.published"
    if importlib.util.find_spec(name) is None:
        return None
    return cast("Reader", importlib.import_module(name))
