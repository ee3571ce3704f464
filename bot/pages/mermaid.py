"""Charts as Mermaid text, which GitHub draws in summaries and comments, where no picture can be embedded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_LABEL = re.compile(r"[A-Za-z0-9 ,./_+-]+")
_COLOUR = "#3b82c4"  # stands out on GitHub's light and on its dark page
_WIDTH, _HEAD, _ROW = 760, 70, 32  # pixels: of the chart, of its axis, of a bar


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: what it stands for, and how long it is, 0 or more."""

    label: str
    value: float


def bars(axis: str, rows: Sequence[Bar]) -> Markup:
    """Return a fenced chart with a horizontal bar for each row, from top to bottom, and a scale that begins at 0.

    Labels and the name of the axis are texts of our own: a stranger's text is never put into Mermaid. Raises ValueError
    for one that could be anything but text.
    """
    for text in (axis, *(row.label for row in rows)):
        if not _LABEL.fullmatch(text):
            raise ValueError(f"{text!a} does not go into a chart")
    longest = max(row.value for row in rows) or 1.0
    labels = ", ".join(f'"{row.label}"' for row in rows)
    lengths = ", ".join(f"{row.value:.6f}" for row in rows)  # Mermaid reads no exponents
    lines = (
        "```mermaid",
        "---",
        "config:",
        "  themeVariables:",
        "    xyChart:",
        f'      plotColorPalette: "{_COLOUR}"',
        "  xyChart:",
        f"    width: {_WIDTH}",
        f"    height: {_HEAD + _ROW * len(rows)}",
        "---",
        "xychart-beta horizontal",
        f"  x-axis [{labels}]",
        f'  y-axis "{axis}" 0 --> {longest * 1.05:.6f}',
        f"  bar [{lengths}]",
        "```",
    )
    return Markup("\n".join(lines))  # noqa: S704 - checked above
