"""The status as pages lay it out: a row for each model, a cell for each format of it, a line for each variant."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from bot import format_folders
from bot.pages.status.records import STATES, Entry, MadeVariant, ModelStatus, State, Status

T = TypeVar("T", int, float)

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A variant as a page shows it: how it stands, and what was measured on the file that is there."""

    entry: Entry
    made: MadeVariant | None

    @property
    def mean_kl(self) -> float | None:
        """The mean KL by which files are compared."""
        compared = self.made.compared if self.made else None
        return compared.mean_kl if compared else None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A model in one format: how many variants stand how, worst first, and from where to where their figures go."""

    format: str
    lines: tuple[Line, ...]

    @property
    def states(self) -> list[tuple[State, int]]:
        """The states of its variants, each with how many there are."""
        counts = Counter(line.entry.state for line in self.lines)
        return [(state, counts[state]) for state in STATES if counts[state]]

    @property
    def repos(self) -> list[str]:
        """The repos that hold some of it."""
        return list(dict.fromkeys(line.entry.repo_id for line in self.lines if line.entry.published))

    @property
    def published(self) -> bool:
        """True if any of it is published."""
        return any(line.entry.published for line in self.lines)

    @property
    def two_sides(self) -> bool:
        """Whether any of its files was measured beyond the LongRoPE switch too."""
        return any(q.side == "long" for line in self.lines if line.made for q in line.made.quality)

    @property
    def sizes(self) -> tuple[int, int] | None:
        """The size of the smallest and the largest, in bytes."""
        return _range([line.made.size for line in self.lines if line.made])

    @property
    def distances(self) -> tuple[float, float] | None:
        """The mean KL of the nearest and the farthest, in nats per token."""
        return _range([line.mean_kl for line in self.lines if line.mean_kl is not None])


@dataclass(frozen=True, kw_only=True)
class StatusRow:
    """A model as a page shows it."""

    model: ModelStatus
    lines: tuple[Line, ...]
    changed: str  # when the youngest of its files was built

    @property
    def path(self) -> str:
        """Where its page is. A name that no Hub would take is not put into one of a file."""
        return f"models/{self.id}.html"

    @property
    def id(self) -> str:
        """Its name in an address."""
        name = self.model.repo_id
        if _SAFE_NAME.fullmatch(name):
            return name.replace("/", "--")
        return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Its formats by their names, in the order in which formats are listed."""
        return {
            name: Cell(format=name, lines=lines)
            for name in format_folders.looks()
            if (lines := tuple(line for line in self.lines if line.entry.format == name))
        }

    @property
    def two_sides(self) -> bool:
        """Whether any of its files was measured beyond the LongRoPE switch too."""
        return any(cell.two_sides for cell in self.cells.values())

    @property
    def known(self) -> list[str]:
        """Known behaviours of runtimes on a side that the gate therefore leaves out."""
        made = (line.made for line in self.lines if line.made and any(not q.gated for q in line.made.quality))
        return list(dict.fromkeys(name for m in made for name in m.known))

    @property
    def urgent(self) -> list[Line]:
        """Entries that a person should look at."""
        return [line for line in self.lines if line.entry.state in ("stuck", "failed")]

    @property
    def tags(self) -> str:
        """The tags that filters look for: ``gguf:published onnx:stuck``."""
        return " ".join(f"{name}:{state}" for name, cell in self.cells.items() for state, _ in cell.states)


def rows_of(status: Status) -> list[StatusRow]:
    """Return the rows of all models, in their order."""
    made = {(shelf.repo_id, m.variant): m for shelf in status.shelves for m in shelf.made}
    rows = []
    for model in status.models:
        lines = tuple(
            Line(entry=e, made=made.get((e.repo_id, e.variant)) if e.published else None) for e in model.entries
        )
        youngest = max((line.made.created for line in lines if line.made), default="")
        rows.append(StatusRow(model=model, lines=lines, changed=youngest))
    return rows


def _range(values: Sequence[T]) -> tuple[T, T] | None:
    return (min(values), max(values)) if values else None
