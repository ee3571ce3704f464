"""The models behind the estimates: linear, with few coefficients that mean something.

models.json holds them; ``make measurements`` writes it, from builds that were measured (benchmarks/estimates).
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from bot.records.artifacts import Record, Variant
from bot.source.shape import Shape

FILE = Path(__file__).with_name("estimate_models.json")

What = Literal["build", "verify", "reference"]
Quantity = Literal["output", "disk", "memory", "cpu_seconds"]
Wide = Literal["element", "token"]

FLOAT, STORED, LAYER = "float", "stored", "layer"
_CLASSES = {"int2": "int4", "int3": "int4", "int4": "int4", "int5": "int4", "int6": "int8", "int8": "int8"}


@dataclass(frozen=True, kw_only=True)
class Model(Record):
    """A sum: a fixed part, so much for what the vocabulary makes large, and so much for each parameter.

    ``wide`` says what the second part is for: each ``element`` of the largest tensor, which is the embedding, or each
    ``token`` of the vocabulary. ``slopes`` are by class of precision (``int4``, ``int8``). Those of ``float`` and
    ``stored`` are for each byte that is stored, that of ``layer`` for each parameter of one layer. ``upto`` is the
    largest number of parameters that was measured. What is said of larger models is multiplied with ``caution``.
    """

    what: What
    format: str
    quantity: Quantity
    wide: Wide
    fixed: float
    per_wide: float
    slopes: dict[str, float]
    upto: int
    caution: float = 1.0

    def at(self, shape: Shape, variant: Variant | None) -> float:
        """Return what the model says. Of a class that was not measured, the dearest that was."""
        names = [n for n in self.slopes if n == class_of(self.quantity, variant)] or list(self.slopes)
        slope = max((self.slopes[n] * amount(n, shape, variant) for n in names), default=0.0)
        return self.fixed + self.per_wide * width(self.wide, shape) + slope


@dataclass(frozen=True, kw_only=True)
class Models(Record):
    """All models. Those of references have the format ""."""

    models: tuple[Model, ...]


@cache
def model(what: What, format_name: str, quantity: Quantity) -> Model:
    """Return the model of a format's runs."""
    return _models()[what, format_name, quantity]


def expected(what: What, shape: Shape, variant: Variant | None, quantity: Quantity) -> float:
    """Return what a run is expected to take."""
    made = model(what, "" if variant is None else variant.format, quantity)
    return (made.caution if shape.count > made.upto else 1.0) * made.at(shape, variant)


def class_of(quantity: Quantity, variant: Variant | None) -> str:
    """Return the class that a run counts in. A variant's is that of its precision; a reference has none."""
    if quantity == "output" and variant is not None:
        return STORED  # whatever the precision
    if variant is None:
        return LAYER if quantity == "memory" else ""  # a reference holds one layer at a time
    return _CLASSES.get(variant.precision, FLOAT)


def width(wide: Wide, shape: Shape) -> float:
    """Return how much of what the vocabulary makes large there is."""
    return float(shape.largest if wide == "element" else shape.vocabulary)


def amount(name: str, shape: Shape, variant: Variant | None) -> float:
    """Return how much of what a slope is for there is."""
    if name == LAYER:
        return shape.count / shape.layers
    bits = variant.bits_per_weight if variant is not None and name in (FLOAT, STORED) else 8.0
    return shape.count * bits / 8


@cache
def _models() -> dict[tuple[str, str, str], Model]:
    found = Models.from_json(json.loads(FILE.read_text(encoding="utf-8")))
    return {(m.what, m.format, m.quantity): m for m in found.models}
