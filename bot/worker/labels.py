"""Names beside the points of a picture, where they cover nothing. Runs in the toolchain ``plots``."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels; matplotlib's own take ten times as long

_NEAR = 8.0  # from the middle of a marker to its name; this and what follows, unless said otherwise, in points
_MARKER = 5.0  # from the middle of a marker to its edge
_ROOM = 2.0  # around a marker
_FAR = 5  # steps: how much farther than _NEAR a name may stand
_AIR = 1.0  # around a name, in pixels
_STEP_COST = 0.05  # a step farther away is worse than this share of the name covered, and better than more
_CROSSING_COST = 0.1  # of each tenth of a leader that crosses something


@dataclass(frozen=True, kw_only=True)
class LabelledPoint:
    """Something to name: where it is in the picture's own units, and how far its error bar reaches up and down."""

    name: str
    colour: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A place for a name, relative to its marker; ``steps`` count how far away that is."""

    steps: int
    across: float
    up: float
    horizontal: Literal["left", "center", "right"]
    vertical: Literal["bottom", "center", "top"]

    def box(self, middle: Sequence[float], width: float, height: float, scale: float) -> Box:
        """Return what a text of ``width`` and ``height`` pixels takes here."""
        left = middle[0] + self.across * scale - width * {"left": 0, "center": 0.5, "right": 1}[self.horizontal]
        bottom = middle[1] + self.up * scale - height * {"bottom": 0, "center": 0.5, "top": 1}[self.vertical]
        return left - _AIR, bottom - _AIR, left + width + _AIR, bottom + height + _AIR

    def put(self, text: Any) -> None:
        """Move a text here."""
        text.set_position((self.across, self.up))
        text.set(horizontalalignment=self.horizontal, verticalalignment=self.vertical)


def name_points(figure: Figure, axes: Any, points: Sequence[LabelledPoint], *, size: float) -> None:
    """Write each point's name near it, in its colour and in the order of ``points``: the first get the better places.

    A name that finds no room close by stands farther away, with a line that leads to its point. The figure's layout
    is fixed from here on.
    """
    figure.draw_without_rendering()  # from here on, pixels are known
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    bodies = [_body(axes, p, scale) for p in points]
    inside: Box = tuple(axes.get_window_extent().extents.tolist())
    taken: list[Box] = []
    for number, point in enumerate(points):
        others = [box for body in (*bodies[:number], *bodies[number + 1 :]) for box in body]
        at = (point.x, point.y)
        text = axes.annotate(
            point.name, at, xytext=(0, 0), textcoords="offset points", fontsize=size, color=point.colour
        )
        extent = text.get_window_extent()
        middle = axes.transData.transform(at).tolist()
        tried = []
        for place in _places():
            box = place.box(middle, extent.width, extent.height, scale)
            leader = _leader(middle, place, scale)
            cost = _cost(box, leader, taken + others, inside) + _STEP_COST * place.steps
            tried.append((cost, place, box, leader))
        _, place, box, leader = min(tried, key=lambda t: t[0])
        place.put(text)
        taken += [box, *leader]
        if leader:
            line = {"arrowstyle": "-", "color": point.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": _MARKER}
            axes.annotate("", at, xytext=(place.across, place.up), textcoords="offset points", arrowprops=line)


def _body(axes: Any, point: LabelledPoint, scale: float) -> list[Box]:
    """Return the boxes of a marker and its error bar. What stood any closer would be taken for its name."""
    heights = (point.y, point.low, point.high)
    (x, y), (_, low), (_, high) = axes.transData.transform([(point.x, height) for height in heights]).tolist()
    half = (_MARKER + _ROOM) * scale
    return [(x - half, y - half, x + half, y + half), (x - 1, low, x + 1, high)]


def _places() -> Iterator[_Place]:
    """Yield places, of equal ones first what is read most easily."""
    for steps in range(_FAR + 1):
        near = _NEAR * (1 + steps / 1.5)
        yield _Place(steps=steps, across=near, up=0, horizontal="left", vertical="center")
        yield _Place(steps=steps, across=-near, up=0, horizontal="right", vertical="center")
        yield _Place(steps=steps, across=0, up=near, horizontal="center", vertical="bottom")
        yield _Place(steps=steps, across=0, up=-near, horizontal="center", vertical="top")
        slant = near / math.sqrt(2)
        yield _Place(steps=steps, across=slant, up=slant, horizontal="left", vertical="bottom")
        yield _Place(steps=steps, across=slant, up=-slant, horizontal="left", vertical="top")
        yield _Place(steps=steps, across=-slant, up=slant, horizontal="right", vertical="bottom")
        yield _Place(steps=steps, across=-slant, up=-slant, horizontal="right", vertical="top")


def _leader(middle: Sequence[float], place: _Place, scale: float) -> list[Box]:
    """Return small boxes along the line from a marker's edge to its name; none where the name stands beside it."""
    length = math.hypot(place.across, place.up)
    if place.steps == 0:
        return []
    found = []
    for tenth in range(10):
        share = (_MARKER + 2 + (length - _MARKER - 2) * tenth / 10) / length * scale
        x, y = middle[0] + place.across * share, middle[1] + place.up * share
        found.append((x - 0.5, y - 0.5, x + 0.5, y + 0.5))
    return found


def _cost(box: Box, leader: Sequence[Box], taken: Sequence[Box], inside: Box) -> float:
    """Return which share of a name covers something or is outside, and what its leader crosses."""
    area = _common(box, box)
    covered = area - _common(box, inside) + sum(_common(box, other) for other in taken)
    crossed = sum(any(_common(part, other) for other in taken) for part in leader)
    return covered / area + _CROSSING_COST * crossed


def _common(box: Box, other: Box) -> float:
    """Return how many square pixels two boxes share."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
