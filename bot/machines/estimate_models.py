"""The models behind the estimates: linear, with few coefficients that mean something.

estimates.json of a format's folder holds its own, and estimate_models.json those of references; ``make measurements``
writes them, from builds that were measured (benchmarks/estimates). A format that was not measured takes what the
dearest of the others does.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from bot import format_folders
from bot.records.artifacts import Record, Variant
from bot.source.shape import Shape

What = Literal["build", "verify", "reference"]
Quantity = Literal["output", "disk", "memory", "cpu_seconds"]
Wide = Literal["element", "token"]

FLOAT, STORED, LAYER = "float", "stored", "layer"
_CLASSES = {"int2": "int4", "int3": "int4", "int4": "int4", "int5": "int4", "int6": "int8", "int8": "int8"}


@dataclass(frozen=True, kw_only=True)
class CostModel(Record):
    """A sum: a fixed part, so much for what the vocabulary makes large, and so much for each parameter.

    ``wide`` says what the second part is for: each ``element`` of the largest tensor, which is the embedding, or each
    ``token`` of the vocabulary. ``slopes`` are by class of precision (``int4``, ``int8``). Those of ``float`` and
    ``stored`` are for each byte that is stored, that of ``layer`` for each parameter of one layer. ``upto`` is the
    largest number of parameters that was measured. Estimates of larger models are multiplied by ``caution``.
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
        """Return the estimate. A class that was not measured counts as the most expensive one that was."""
        names = [n for n in self.slopes if n == class_of(self.quantity, variant)] or list(self.slopes)
        slope = max((self.slopes[n] * slope_amount(n, shape, variant) for n in names), default=0.0)
        return self.fixed + self.per_wide * width(self.wide, shape) + slope


@dataclass(frozen=True, kw_only=True)
class CostModels(Record):
    """Models of one file. Those of references have the format ""."""

    models: tuple[CostModel, ...]


def file_of(format_name: str) -> Path:
    """Return the file with the models of a format's runs; those of references have the format ""."""
    if not format_name:
        return Path(__file__).with_name("estimate_models.json")
    return format_folders.file_of(format_name, "estimates.json")


def model(what: What, format_name: str, quantity: Quantity) -> CostModel:
    """Return the model of a format's runs. Raises KeyError where it was not measured."""
    return _models()[what, format_name, quantity]


def expected(what: What, shape: Shape, variant: Variant | None, quantity: Quantity) -> float:
    """Return what a run is expected to take; of a format that was not measured, the most that one of any takes."""
    models = _known(what, "" if variant is None else variant.format, quantity)
    return max((m.caution if shape.count > m.upto else 1.0) * m.at(shape, variant) for m in models)


def fixed(what: What, variant: Variant, quantity: Quantity) -> float:
    """Return what a run takes whatever the model, in the same way."""
    return max(m.fixed for m in _known(what, variant.format, quantity))


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


def slope_amount(name: str, shape: Shape, variant: Variant | None) -> float:
    """Return how much of what a slope is for there is."""
    if name == LAYER:
        return shape.count / shape.layers
    bits = variant.bits_per_weight if variant is not None and name in (FLOAT, STORED) else 8.0
    return shape.count * bits / 8


def _known(what: What, format_name: str, quantity: Quantity) -> list[CostModel]:
    known = _models()
    if (what, format_name, quantity) in known:
        return [known[what, format_name, quantity]]
    return [m for m in known.values() if (m.what, m.quantity) == (what, quantity)]


@cache
def _models() -> dict[tuple[str, str, str], CostModel]:
    files = [file for name in ("", *format_folders.names()) if (file := file_of(name)).exists()]
    found = [CostModels.from_json(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    return {(m.what, m.format, m.quantity): m for models in found for m in models.models}
