"""Fit the models of the estimates to what was measured: see bot/machines/estimate_models.py."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.estimates.fit import fit
from benchmarks.estimates.measured import Measured, measurements
from bot import catalogue
from bot.formats.registry import all_formats
from bot.machines.estimate_models import (
    CostModel,
    CostModels,
    Quantity,
    What,
    Wide,
    class_of,
    file_of,
    slope_amount,
    width,
)
from bot.records.artifacts import Variant

QUANTITIES: tuple[tuple[What, tuple[Quantity, ...]], ...] = (
    ("build", ("output", "disk", "memory", "cpu_seconds")),
    ("verify", ("memory", "cpu_seconds")),
    ("reference", ("memory", "cpu_seconds")),
)
_FLOORS: Mapping[Quantity, float] = {"output": 1e6, "disk": 1e7, "memory": 1e8, "cpu_seconds": 0.5}


def kinds() -> Iterator[tuple[What, str, Quantity]]:
    """Yield what there is a model of: a kind of run, a format ("" for references), a quantity."""
    for what, quantities in QUANTITIES:
        for name in [""] if what == "reference" else [n for n in all_formats() if rows_of(what, n)]:
            yield from ((what, name, quantity) for quantity in quantities)


def learn(rows: Sequence[Measured], quantity: Quantity) -> CostModel:
    """Fit the model of a quantity to measurements of one format and one kind of run.

    Time goes into reading a tokenizer, and so by tokens; everything else is about how large the tensors are.
    """
    known = [(r, variant_of(r)) for r in rows if getattr(r, quantity) is not None]
    names = sorted({class_of(quantity, v) for _, v in known})
    wide: Wide = "token" if quantity == "cpu_seconds" else "element"
    table = [
        [
            1.0,
            width(wide, r.shape),
            *(slope_amount(n, r.shape, v) if n == class_of(quantity, v) else 0.0 for n in names),
        ]
        for r, v in known
    ]
    fixed, per_wide, *slopes = fit(table, [getattr(r, quantity) for r, _ in known], floor=_FLOORS[quantity])
    return CostModel(
        what=rows[0].what,
        format=format_of(rows[0]),
        quantity=quantity,
        wide=wide,
        fixed=fixed,
        per_wide=per_wide,
        slopes=dict(zip(names, slopes, strict=True)),
        upto=max(r.shape.count for r, _ in known),
    )


def rows_of(what: What, format_name: str) -> list[Measured]:
    """Return the measurements of one kind of run of a format; of references, format "" has them."""
    return [r for r in measurements().rows if r.what == what and format_of(r) == format_name]


def learn_all() -> CostModels:
    """Fit every model to all that was measured of it."""
    fitted = (learn(rows_of(what, name), quantity) for what, name, quantity in kinds())
    return CostModels(models=tuple(replace(made, caution=_caution(made)) for made in fitted))


def write() -> None:
    """Write the models of each format to its folder, and those of references beside the code that reads them."""
    learned = learn_all().models
    for name in dict.fromkeys(made.format for made in learned):
        models = CostModels(models=tuple(made for made in learned if made.format == name))
        file_of(name).write_text(json.dumps(models.to_json(), indent=1) + "\n", encoding="utf-8")


def format_of(row: Measured) -> str:
    """Return ``gguf`` of ``gguf/q4_k_m``, and "" of a reference."""
    return row.variant.partition("/")[0]


def variant_of(row: Measured) -> Variant | None:
    """Return the row of the catalogue that was measured; a reference has none."""
    return catalogue.all_variants()[row.variant] if row.variant else None


def _caution(made: CostModel) -> float:
    """Return by how much a model says too little of a real size, at least 1; for an output it is 1.

    Too little memory or disk ends a job, and too much costs a little. What is published is to be told as it will be.
    """
    if made.quantity == "output":
        return 1.0
    found: list[float] = [
        getattr(r, made.quantity) / made.at(r.shape, variant_of(r))
        for r in measurements().large
        if r.what == made.what and format_of(r) == made.format and getattr(r, made.quantity) is not None
    ]
    return max([1.0, *found])
