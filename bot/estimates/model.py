"""The models behind the estimates: linear, with few coefficients that mean something, fitted to what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from bot import catalogue
from bot.estimates.fit import fit
from bot.estimates.measured import Measured, Quantity, What, measurements
from bot.records import Variant
from bot.source.shape import Shape

_FLOORS: Mapping[Quantity, float] = {"output": 1e6, "disk": 1e7, "memory": 1e8, "cpu_seconds": 0.5}
_CLASSES = {"int2": "int4", "int3": "int4", "int4": "int4", "int5": "int4", "int6": "int8", "int8": "int8"}
FLOAT = "float"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A sum: a fixed part, so much for each element of the largest tensor, and so much for each parameter.

    ``slopes`` are for the classes of precision (``int4``, ``int8``) that were measured; those of ``float`` are for each
    byte that is stored. ``upto`` is the largest number of parameters that was measured.
    """

    quantity: Quantity
    fixed: float
    per_element: float
    slopes: dict[str, float]
    upto: int

    def at(self, shape: Shape, variant: Variant | None) -> float:
        """Return what the model says. Of a class that was not measured, the dearest that was."""
        base = self.fixed * _unit(self.quantity, shape) + self.per_element * _largest(self.quantity, shape, variant)
        name = class_of(variant)
        names = [name] if name in self.slopes else list(self.slopes)
        return base + max((self.slopes[n] * _amount(n, shape, variant) for n in names), default=0.0)


def class_of(variant: Variant | None) -> str:
    """Return the class of precision that a variant is estimated with; a reference has none."""
    return "" if variant is None else _CLASSES.get(variant.precision, FLOAT)


def learn(rows: Sequence[Measured], quantity: Quantity) -> Model:
    """Fit the model of a quantity to measurements of one format and one kind of run."""
    known = [(r, _variant(r)) for r in rows if getattr(r, quantity) is not None]
    names = ["stored"] if quantity == "output" else sorted({class_of(v) for _, v in known})
    table = [
        [
            _unit(quantity, r.shape),
            _largest(quantity, r.shape, v),
            *(_amount(n, r.shape, v) if n in (class_of(v), "stored") else 0.0 for n in names),
        ]
        for r, v in known
    ]
    fixed, per_element, *slopes = fit(table, [getattr(r, quantity) for r, _ in known], floor=_FLOORS[quantity])
    return Model(
        quantity=quantity,
        fixed=fixed,
        per_element=per_element,
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
    """Return by how much the models say too little of a real size, at least 1.

    What they say of models beyond those that they were fitted to is multiplied with it.
    """
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


def _unit(quantity: Quantity, shape: Shape) -> float:
    """A tokenizer grows with the vocabulary; everything else has a part that is always there."""
    return float(shape.vocabulary) if quantity == "output" else 1.0


def _largest(quantity: Quantity, shape: Shape, variant: Variant | None) -> float:
    stored = variant.bits_per_weight / 8 if variant is not None and quantity == "output" else 1.0
    return shape.largest * stored


def _amount(name: str, shape: Shape, variant: Variant | None) -> float:
    bits = variant.bits_per_weight if variant is not None and name in (FLOAT, "stored") else 8.0
    return shape.count * bits / 8
