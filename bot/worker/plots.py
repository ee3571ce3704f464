"""The pictures on a card: size against quality, and the distance along a text. Runs in the toolchain ``plots``.

Both are drawn in inks of a middle tone on nothing, so that they are read on a light page and on a dark one, 700 pixels
wide or on a phone. The same task gives the same bytes: the font is the one that matplotlib brings, no setting of the
user's is read, and nothing of the day or the version is written into the file.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["MPLCONFIGDIR"] = str(Path.cwd())  # read when matplotlib is imported: the worker's own folder, empty

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

from bot.records.artifacts import Json
from bot.records.evidence import Stretch
from bot.records.tasks import PlotCurve, PlotPoint, PlotTask
from bot.worker.harness import Reporter, main
from bot.worker.labels import LabelledPoint, name_points

_INCHES, _DPI = (5.6, 4.2), 250  # 1400 x 1050 pixels: on a card, two for each that is shown
_INK = "#79818c"  # stands out from white and from the Hub's dark page alike, 4 to 1
_FAINT = "#79818c40"
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "pentagon": "p", "star": "*"}
# Where a logarithmic scale is marked in each decade, by how many times the least the most is.
_STEPS = ((10, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), (300, (1.0, 2.0, 5.0)), (math.inf, (1.0,)))
_MARK = 7  # points
_COLOURS = 128  # of a palette
_LEAST_KL = 1e-6  # below it, rounding is all that is measured
_TOKENS = 60  # positions that a point on a line stands for, at least
_LONG_SHARE = 0.35  # of the width, for the few positions past the switch
_NAME = 42  # characters of a name that fit
_IN_A_ROW = 5  # entries of the legend of formats


def draw(task_json: Json, report: Reporter) -> Json:  # noqa: ARG001 - it takes a second
    """Draw what a task has figures for; return the names of the files."""
    task = PlotTask.from_json(task_json)
    _prepare()
    drawn: list[Json] = []
    if task.points:
        drawn.append(_save(_quality(task), Path(task.out), "quality.png"))
    if task.curves:
        drawn.append(_save(_positions(task), Path(task.out), "positions.png"))
    return drawn


def _prepare() -> None:
    brought = Path(mpl.get_data_path())
    fonts = font_manager.fontManager
    fonts.ttflist = [f for f in fonts.ttflist if Path(f.fname).is_relative_to(brought)]
    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "font.size": 9.5,
            "text.parse_math": False,  # names come from strangers
            "text.color": _INK,
            "axes.edgecolor": _INK,
            "axes.labelcolor": _INK,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": _FAINT,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "legend.frameon": False,
        }
    )


def _save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure with a palette: a few inks and their edges take a quarter of the bytes that full colour takes."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    canvas.draw()
    full = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba()))
    picture = full.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    picture.save(folder / name, optimize=True)
    return name


def _figure(title: str, *, pad: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=_INCHES, layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.set_title(title, pad=pad)
    axes.set_ylabel("mean KL from the original (nats per token)")
    axes.set_yscale("log")
    return figure, axes


def _mark_decades(axes: Any) -> None:
    """Give a logarithmic scale its ticks, in decimals; where it spans few decades, between them too."""
    low, high = axes.get_ylim()
    steps = next(steps for most, steps in _STEPS if high / low < most)
    axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:f}".rstrip("0").rstrip(".")))


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _style(task: PlotTask, form: str) -> tuple[str, str]:
    look = next(look for look in task.looks if look.format == form)
    return look.colour, _MARKERS[look.shape]


# ---- size against quality ------------------------------------------------------------------------------------


def _quality(task: PlotTask) -> Figure:
    """Draw a point a build: bits across, distance up, one standard error each way; the repo's own are filled."""
    figure, axes = _figure(f"{_short(task.model)}: size against quality", pad=10)
    points = []
    shown = {p.format for p in task.points}
    for form in (look.format for look in task.looks if look.format in shown):
        colour, marker = _style(task, form)
        for p in sorted((p for p in task.points if p.format == form), key=_key):
            kl = max(p.mean_kl, _LEAST_KL)
            low, high = max(kl - p.standard_error, _LEAST_KL), kl + p.standard_error
            points.append(
                (_key(p), LabelledPoint(name=_short(p.name), colour=colour, x=p.bits, y=kl, low=low, high=high))
            )
            axes.plot(
                p.bits,
                kl,
                marker,
                color=colour,
                markerfacecolor=colour if p.own else "none",
                markersize=_MARK,
                markeredgewidth=1.6,
            )
            axes.update_datalim([(p.bits, low), (p.bits, high)])
        axes.plot([], [], marker, color=colour, markersize=_MARK, label=_short(form))
    axes.set_xlabel("bits stored for each weight")
    axes.set_xscale("log")  # most files lie between 4 and 6 bits
    axes.xaxis.set_major_locator(FixedLocator((2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bits = [p.bits for p in task.points]
    axes.set_xlim(min(2.8, min(bits) * 0.85), max(18.0, max(bits) * 1.2))
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.3, max(high * 1.3, low * 10))
    _mark_decades(axes)
    _draw_errors(axes, [point for _, point in points])
    if {p.own for p in task.points} == {True, False}:
        axes.plot([], [], "o", color=_INK, markerfacecolor="none", markeredgewidth=1.6, label="in other repos")
    figure.legend(loc="outside lower center", ncols=_IN_A_ROW, columnspacing=1.2, handletextpad=0.2)
    in_order = [point for _, point in sorted(points, key=lambda entry: entry[0])]
    name_points(figure, axes, in_order, size=8.5)
    return figure


def _draw_errors(axes: Any, points: Sequence[LabelledPoint]) -> None:
    """Draw errors where they are longer than a mark: in a hollow one, a shorter line would be another sign."""
    bottom, top = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_figheight()
    least = math.log(top / bottom) * _MARK / (72 * inches)
    for point in points:
        if math.log(point.high / point.low) > least:
            axes.vlines(point.x, point.low, point.high, color=point.colour, linewidth=1.6)


def _key(point: PlotPoint) -> tuple[bool, float, str]:
    """Order points for naming: the repo's own first."""
    return not point.own, point.bits, point.name


# ---- along a text --------------------------------------------------------------------------------------------


def _positions(task: PlotTask) -> Figure:
    """Draw a line a build and setting, over positions; what lies past the switch gets more width than its share."""
    figure, axes = _figure(f"{_short(task.model)}: distance along a text", pad=20)
    last = max(s.last for c in task.curves for s in c.stretches) + 1
    if task.switch is not None and task.switch < last:
        knots = [0, task.switch, last], [0, 1 - _LONG_SHARE, 1]
        axes.set_xscale("function", functions=(lambda x: _between(x, *knots), lambda x: _between(x, *reversed(knots))))
        axes.axvline(task.switch, color=_INK, linestyle=(0, (4, 2)), linewidth=1.4)
        axes.annotate(
            "LongRoPE switch",
            (task.switch, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            horizontalalignment="center",
            verticalalignment="bottom",
        )
    for curve in task.curves:
        colour, marker = _style(task, curve.format)
        label = _short(" ".join(filter(None, (curve.format, curve.name, curve.setting and f"({curve.setting})"))))
        for number, side in enumerate(_sides(curve)):
            points = [_joined(part) for part in _parts(side)]
            axes.plot(
                [position for position, _ in points],
                [max(kl, _LEAST_KL) for _, kl in points],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.8,
                linestyle=(0, (1.5, 1)) if curve.setting else "-",
                label=label if number == 0 else None,
            )
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(task.switch, last)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("position in the text, tokens")
    _mark_decades(axes)
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def _sides(curve: PlotCurve) -> list[list[Stretch]]:
    found = [[s for s in curve.stretches if s.side == side] for side in ("short", "long")]
    return [side for side in found if side]


def _parts(side: Sequence[Stretch]) -> list[list[Stretch]]:
    """Join neighbours until each part has enough positions for a mean that says something."""
    parts: list[list[Stretch]] = []
    for stretch in side:
        if parts and sum(s.tokens for s in parts[-1]) < _TOKENS:
            parts[-1].append(stretch)
        else:
            parts.append([stretch])
    return parts


def _joined(part: Sequence[Stretch]) -> tuple[float, float]:
    """Return the middle position of a part, and the mean KL over all positions in it."""
    tokens = sum(s.tokens for s in part)
    return (part[0].first + part[-1].last) / 2, sum(s.mean_kl * s.tokens for s in part) / tokens


def _between(values: Any, known: Sequence[float], images: Sequence[float]) -> Any:
    """Map values piecewise linearly, and on past both ends: axes are laid out with a margin."""
    (a, b, c), (p, q, r) = known, images
    values = np.asarray(values, dtype=float)
    return np.where(values < b, p + (values - a) * (q - p) / (b - a), q + (values - b) * (r - q) / (c - b))


def _ticks(switch: int | None, last: int) -> list[float]:
    before = switch if switch is not None and switch < last else last
    return [*(before * n / 4 for n in range(5)), *([last] if before < last else [])]


if __name__ == "__main__":
    main({"draw": draw})
