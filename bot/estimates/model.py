"""The models behind the estimates: linear, with few coefficients that mean something, fitted to what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from bot import catalogue
from bot.estimates.fit import fit
from bot.estimates.measured import Measured, Quantity, What, measurements
from bot.records import Variant
from bot.source.shape import Shape

_FLOORS: Mapping[Quantity, float] = {"output": 1e6, "disk": 1e7, "memory": 1e8, "cpu_seconds": 0.5}
_CLASSES = {"int2": "int4", "int3": "int4", "int4": "int4", "int5": "int4", "int6": "int8", "int8": "int8"}
FLOAT, STORED, LAYER = "float", "stored", "layer"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A sum: a fixed part, so much for what the vocabulary makes large, and so much for each parameter.

    ``wide`` says what the second part is for: each ``element`` of the largest tensor, which is the embedding, or each
    ``token`` of the vocabulary. ``slopes`` are by class of precision (``int4``, ``int8``). Those of ``float`` and
    ``stored`` are for each byte that is stored, that of ``layer`` for each parameter of one layer. ``upto`` is the
    largest number of parameters that was measured.
    """

    quantity: Quantity
    wide: Literal["element", "token"]
    fixed: float
    per_wide: float
    slopes: dict[str, float]
    upto: int

    def at(self, shape: Shape, variant: Variant | None) -> float:
        """Return what the model says. Of a class that was not measured, the dearest that was."""
        names = [n for n in self.slopes if n in _names(self.quantity, variant)] or list(self.slopes)
        slope = max((self.slopes[n] * _amount(n, shape, variant) for n in names), default=0.0)
        return self.fixed + self.per_wide * _width(self.wide, shape) + slope


def class_of(variant: Variant | None) -> str:
    """Return the class of precision that a variant is estimated with; a reference has none."""
    return "" if variant is None else _CLASSES.get(variant.precision, FLOAT)


def learn(rows: Sequence[Measured], quantity: Quantity) -> Model:
    """Fit the model of a quantity to measurements of one format and one kind of run.

    Time goes into reading a tokenizer, and so by tokens; everything else is about how large the tensors are.
    """
    known = [(r, _variant(r)) for r in rows if getattr(r, quantity) is not None]
    names = sorted({n for _, v in known for n in _names(quantity, v)})
    wide: Literal["element", "token"] = "token" if quantity == "cpu_seconds" else "element"
    table = [
        [
            1.0,
            _width(wide, r.shape),
            *(_amount(n, r.shape, v) if n in _names(quantity, v) else 0.0 for n in names),
        ]
        for r, v in known
    ]
    fixed, per_wide, *slopes = fit(table, [getattr(r, quantity) for r, _ in known], floor=_FLOORS[quantity])
    return Model(
        quantity=quantity,
        wide=wide,
        fixed=fixed,
        per_wide=per_wide,
        slopes=dict(zip(names, slopes, strict=True)),
        upto=max(r.shape.count for r, _ in known),
    )


def rows_of(what: What, format_name: str) -> list[Measured]:
    """Return the measurements of one kind of run of a format; of references, format "" has them."""
    return [r for r in measurements().rows if r.what == what and r.variant.partition("/")[0] == format_name]


@cache
def model(what: What, format_name: str, quantity: Quantity) -> Model:
    """Return the model of a format's runs, fitted to all that was measured of them."""
    return learn(rows_of(what, format_name), quantity)


@cache
def caution(what: What, format_name: str, quantity: Quantity) -> float:
    """Return by how much the models say too little of a real size, at least 1; for an output it is 1.

    What they say of models beyond those that they were fitted to is multiplied with it: too little memory or disk ends
    a job, and too much costs a little. What is published is to be told as it will be.
    """
    if quantity == "output":
        return 1.0
    found: list[float] = [
        getattr(r, quantity) / model(what, format_name, quantity).at(r.shape, _variant(r))
        for r in measurements().large
        if r.what == what and r.variant.partition("/")[0] == format_name and getattr(r, quantity) is not None
    ]
    return max([1.0, *found])


def expected(what: What, shape: Shape, variant: Variant | None, quantity: Quantity) -> float:
    """Return what a run is expected to take."""
    name = "" if variant is None else variant.format
    made = model(what, name, quantity)
    factor = caution(what, name, quantity) if shape.count > made.upto else 1.0
    return factor * made.at(shape, variant)


def _variant(row: Measured) -> Variant | None:
    return catalogue.all_variants()[row.variant] if row.variant else None


def _names(quantity: Quantity, variant: Variant | None) -> tuple[str, ...]:
    """Return the class that a run counts in."""
    if quantity == "output" and variant is not None:
        return (STORED,)  # whatever the class
    if quantity == "memory" and variant is None:
        return (LAYER,)  # a reference holds one layer at a time
    return (class_of(variant),)


def _width(wide: Literal["element", "token"], shape: Shape) -> float:
    return float(shape.largest if wide == "element" else shape.vocabulary)


def _amount(name: str, shape: Shape, variant: Variant | None) -> float:
    if name == LAYER:
        return shape.count / shape.layers
    bits = variant.bits_per_weight if variant is not None and name in (FLOAT, STORED) else 8.0
    return shape.count * bits / 8
