"""The measured costs of builds: measurements.json, which ``make measurements`` writes."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot.machines.estimate_models import What
from bot.records.artifacts import Record
from bot.source.shape import Shape

FILE = Path(__file__).with_name("measurements.json")


@dataclass(frozen=True, kw_only=True)
class Measured(Record):
    """The cost of one run of a worker: bytes of ``output``, peaks of scratch ``disk`` and ``memory``, processor time.

    ``variant`` is "" for a reference, which all variants share. Figures that were not measured are None.
    """

    what: What
    variant: str
    shape: Shape
    output: int | None = None
    disk: int | None = None
    memory: int | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measurements(Record):
    """All measurements on one machine. ``large`` are single ones of a real size, that nothing is fitted to."""

    machine: str
    taken: str
    rows: tuple[Measured, ...]
    large: tuple[Measured, ...]


@cache
def measurements() -> Measurements:
    """Return what was measured."""
    return Measurements.from_json(json.loads(FILE.read_text(encoding="utf-8")))
