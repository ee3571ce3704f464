"""How wrong the estimates are: docs/estimates.md, by leaving out each measured model in turn. ``make measurements``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.estimates.learn import format_of, kinds, learn, rows_of, variant_of
from benchmarks.estimates.measured import Measured, measurements
from bot.formats.registry import all_formats
from bot.machines.estimate_models import CostModel, Quantity, What, model
from bot.pages import templates

PAGE = Path(__file__).parents[2] / "docs" / "estimates.md"

_WORDS = {"output": "output", "disk": "scratch", "memory": "memory", "cpu_seconds": "time"}
_NAMES = {
    "": "",
    "int4": "up to 5 bits",
    "int8": "up to 8 bits",
    "float": "a million stored bytes",
    "stored": "a million stored bytes",
    "layer": "of one layer",
}
_LEAST: dict[Quantity, float] = {"output": 1e6, "disk": 5e7, "memory": 1e7, "cpu_seconds": 0.5}


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How far a model is off for models that it did not see.

    Relative errors: the ``typical`` one (the median of sizes), and the worst in either direction, signs kept:
    ``too_little`` is 0 or below.
    """

    what: What
    format: str
    quantity: Quantity
    count: int
    typical: float
    too_little: float
    too_much: float


@dataclass(frozen=True, kw_only=True)
class Far:
    """A single measurement of a real size beside what the fit says of it, and the factor that follows from it."""

    row: Measured
    format: str
    quantity: Quantity
    measured: float
    said: float
    factor: float


def errors() -> Iterator[Errors]:
    """Leave out each measured model in turn, fit to the others, and return how far off the fit is for it."""
    for what, name, quantity in kinds():
        if found := _left_out(rows_of(what, name), quantity):
            yield Errors(
                what=what,
                format=name,
                quantity=quantity,
                count=len(found),
                typical=sorted(abs(e) for e in found)[len(found) // 2],
                too_little=min([0.0, *found]),
                too_much=max([0.0, *found]),
            )


def _left_out(rows: Sequence[Measured], quantity: Quantity) -> list[float]:
    """Return the relative errors. All rows of a model are left out together, for its variants are alike.

    Where fewer are left than there are coefficients, nothing is said: any of many fits would do.
    """
    found = []
    for count in sorted({r.shape.count for r in rows}):
        rest, mine = [r for r in rows if r.shape.count != count], [r for r in rows if r.shape.count == count]
        fitted = learn(rest, quantity)
        if len(rest) < len(fitted.slopes) + 2:
            continue
        for row in mine:
            measured = getattr(row, quantity)
            if measured is not None and measured >= _LEAST[quantity]:
                found.append(_said(fitted, row) / measured - 1)
    return found


def far() -> Iterator[Far]:
    """Return what was measured once of a real size, and is fitted to nothing."""
    for row in measurements().large:
        name = format_of(row)
        for quantity in ("output", "disk", "memory", "cpu_seconds"):
            if (measured := getattr(row, quantity)) is not None:
                yield Far(
                    row=row,
                    format=name,
                    quantity=quantity,
                    measured=measured,
                    said=_said(model(row.what, name, quantity), row),
                    factor=model(row.what, name, quantity).caution,
                )


def render() -> str:
    """Return the page in Markdown."""
    found = measurements()
    shapes = {r.shape.count: r.shape for r in found.rows}
    return (
        templates.environment()
        .get_template("estimates.md.j2")
        .render(
            measured=found,
            shapes=[shapes[count] for count in sorted(shapes)],
            variants=list(dict.fromkeys(r.variant for r in found.rows if r.variant)),
            errors=list(errors()),
            far=list(far()),
            models=[model(*kind) for kind in kinds()],
            titles={name: form.title for name, form in all_formats().items()} | {"": "all"},
            words=_WORDS,
            names=_NAMES,
        )
    )


def write() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def _said(fitted: CostModel, row: Measured) -> float:
    return fitted.at(row.shape, variant_of(row))


if __name__ == "__main__":
    write()
