"""The charts of the status page: where marks, bars and words go, in the units of an SVG. Templates draw them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bot import format_folders

WIDTH, HEIGHT = 480.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 20.0, 12.0, 44.0
_LEAST = 1e-6  # nats: on a logarithmic axis, nothing is nearer than this
_LETTER, _LINE = 7.4, 13.0  # the size of a letter of a label, where the chart is small and its words are large


@dataclass(frozen=True, kw_only=True)
class MeasuredFile:
    """A file: its size in bytes, its mean KL in nats per token and the standard error of that."""

    format: str
    name: str
    size: int
    mean_kl: float
    error: float


@dataclass(frozen=True, kw_only=True)
class PlottedPoint:
    """A point where it is drawn; ``low`` and ``high`` are the ends of its error bar. ``anchor`` is of its label."""

    point: MeasuredFile
    x: float
    y: float
    low: float
    high: float
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line across a chart, and what it says."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Size against distance. Frame and ticks are in the units of the SVG."""

    marks: tuple[PlottedPoint, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def formats(self) -> list[str]:
        """The formats that have a mark, in the order in which formats are listed."""
        return _listed({mark.point.format for mark in self.marks})


def _listed(formats: set[str]) -> list[str]:
    return [name for name in format_folders.looks() if name in formats]


def scatter(points: Sequence[MeasuredFile]) -> Scatter | None:
    """Return the chart of some files, None where there is nothing to compare."""
    if len(points) < 2:
        return None
    largest = max(1, *(p.size for p in points)) / 1e9
    step = _step(largest)
    end = math.ceil(largest * 1.08 / step) * step
    lows = [max(p.mean_kl - p.error, p.mean_kl / 3, _LEAST) for p in points]
    first = math.floor(math.log10(min(lows)))
    last = max(math.ceil(math.log10(max(p.mean_kl + p.error for p in points) or _LEAST)), first + 1)

    def x(size: float) -> float:
        return _LEFT + size / 1e9 / end * (WIDTH - _LEFT - _RIGHT)

    def y(kl: float) -> float:
        share = (math.log10(max(kl, _LEAST)) - first) / (last - first)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    marks: list[PlottedPoint] = []
    taken = [(x(p.size) - 5, y(p.mean_kl) - 5, x(p.size) + 5, y(p.mean_kl) + 5) for p in points]
    for point, low in zip(points, lows, strict=True):
        at, height = x(point.size), y(point.mean_kl)
        label_x, label_y, anchor = _label(at, height, point.name, taken)
        marks.append(
            PlottedPoint(
                point=point,
                x=round(at, 1),
                y=round(height, 1),
                low=round(y(low), 1),
                high=round(y(point.mean_kl + point.error), 1),
                label_x=round(label_x, 1),
                label_y=round(label_y, 1),
                anchor=anchor,
            )
        )
    return Scatter(
        marks=tuple(marks),
        across=tuple(Tick(at=round(x(n * step * 1e9), 1), text=f"{n * step:g}") for n in range(round(end / step) + 1)),
        up=tuple(Tick(at=round(y(10.0**n), 1), text=_power(n)) for n in range(first, last + 1)),
    )


def _power(exponent: int) -> str:
    """Return a power of ten in few letters."""
    if exponent > -4:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _step(largest: float) -> float:
    """Return a round distance between ticks, for four to eight of them."""
    rough = largest / 5
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= rough)


def _label(x: float, y: float, name: str, taken: list[tuple[float, float, float, float]]) -> tuple[float, float, str]:
    """Choose a place beside a mark that no other mark or label has, and take it."""
    width = len(name) * _LETTER
    places = [
        (x + dx, y + dy, anchor)
        for dy in (4.0, -9.0, 17.0, -21.0, 29.0, -33.0, 41.0)
        for dx, anchor in ((9.0, "start"), (-9.0, "end"))
    ]
    boxes = []
    for place_x, place_y, anchor in places:
        left = place_x if anchor == "start" else place_x - width
        boxes.append((left, place_y - _LINE + 2, left + width, place_y + 2))
    fitting = [n for n, box in enumerate(boxes) if _fits(box, taken)]
    chosen = fitting[0] if fitting else 0
    taken.append(boxes[chosen])
    return places[chosen]


def _fits(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = box
    if left < _LEFT or right > WIDTH - 2 or top < 0 or bottom > HEIGHT - _BOTTOM:
        return False
    return not any(left < r and l_ < right and top < b and t < bottom for l_, t, r, b in taken)


# ---- the overview --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Range:
    """The distances of files of one precision and format from the original: mean KL in nats per token, over models."""

    precision: str
    format: str
    count: int
    low: float
    median: float
    high: float


@dataclass(frozen=True, kw_only=True)
class RangeBar:
    """A range where it is drawn."""

    range: Range
    y: float
    low: float
    median: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All ranges, one a line."""

    bars: tuple[RangeBar, ...]
    ticks: tuple[Tick, ...]
    height: float
    left: float = 138.0
    right: float = WIDTH - _RIGHT
    bottom: float = 0.0
    width: float = WIDTH

    @property
    def formats(self) -> list[str]:
        """The formats that have a bar, in the order in which formats are listed."""
        return _listed({bar.range.format for bar in self.bars})


def overview(ranges: Sequence[Range]) -> Overview | None:
    """Return the chart of all ranges, None where there are none."""
    if not ranges:
        return None
    line, top = 20.0, 10.0
    left, right = Overview.left, Overview.right
    first = math.floor(math.log10(max(min(r.low for r in ranges), _LEAST)))
    last = max(math.ceil(math.log10(max(*(r.high for r in ranges), _LEAST))), first + 1)

    def x(kl: float) -> float:
        return round(left + (math.log10(max(kl, _LEAST)) - first) / (last - first) * (right - left), 1)

    bars = tuple(
        RangeBar(range=r, y=top + line * (n + 0.5), low=x(r.low), median=x(r.median), high=x(r.high))
        for n, r in enumerate(ranges)
    )
    bottom = top + line * len(ranges) + 4
    ticks = tuple(Tick(at=x(10.0**n), text=_power(n)) for n in range(first, last + 1))
    return Overview(bars=bars, ticks=ticks, height=bottom + 38, bottom=bottom)
