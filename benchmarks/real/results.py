"""What was measured, as records: benchmarks/results/latest.json."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.real.watched import Taken
from bot.records.artifacts import Record

Way = Literal["raw", "phi-bot", "stock"]


@dataclass(frozen=True, kw_only=True)
class Cell(Record):
    """One measurement: variants of one format, made of one checkpoint in one way.

    ``raw`` are the tools by hand, one variant after the other; ``stock`` is ``phi-bot build --stock``. ``taken`` is
    None for what was not run, and ``why`` says why; its ``disk`` is what lay there beside the outputs, at most.
    ``output`` is in bytes; ``files`` are the digests of each variant's files. ``load`` is how many processes were at
    work on the machine in the minute before.
    """

    shape: str
    layers: int
    variants: tuple[str, ...]
    way: Way
    round: int
    taken: Taken | None
    output: int
    files: dict[str, dict[str, str]]
    load: float
    why: str = ""

    @property
    def job(self) -> tuple[str, int, tuple[str, ...]]:
        """The task: the same for all ways and rounds."""
        return self.shape, self.layers, self.variants


@dataclass(frozen=True, kw_only=True)
class Results(Record):
    """All measurements of one run, and the machine that it ran on. ``toolchains`` has the versions of what ran."""

    machine: str
    taken: str
    commit: str
    toolchains: dict[str, dict[str, str]]
    cells: tuple[Cell, ...]
