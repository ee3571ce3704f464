"""Make the files of the status page: index.html, a page for each model, style.css and status.json."""

import base64
import datetime as dt
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from bot import format_folders
from bot.formats.registry import all_formats
from bot.pages.markdown import is_web_address
from bot.pages.numbers import nats, percent
from bot.pages.status import chart
from bot.pages.status.records import STATES, Quality, State, Status
from bot.pages.status.rows import StatusRow, rows_of
from bot.pages.templates import environment
from bot.printable import json_text

_MOST_URGENT = 20
_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int6", "int5", "int4", "int3", "int2")

WORDS: dict[State, str] = {
    "stuck": "needs a person",
    "failed": "failed",
    "waiting": "tried again later",
    "changed": "model changed",
    "outdated": "outdated",
    "planned": "to be built",
    "published": "published",
    "refused": "not possible",
}
SIGNS: dict[State, str] = {
    "stuck": "!",
    "failed": "✗",
    "waiting": "↻",
    "changed": "△",
    "outdated": "◷",
    "planned": "…",
    "published": "✓",
    "refused": "∅",
}


def render(status: Status) -> dict[str, bytes]:
    """Return the files of the site by their paths."""
    rows = rows_of(status)
    script = _static("script.js")
    common = {
        "status": status,
        "formats": {name: all_formats()[name].title for name in format_folders.looks()},
        "looks": format_folders.looks(),
        "words": WORDS,
        "signs": SIGNS,
        "nats": nats,
        "percent": percent,
        "error": _error,
        "when": _when,
        "age": _age(status.made),
        "hub_url": _hub_url(status.hub),
        "is_web_address": is_web_address,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    urgent = sorted(
        ((row, line) for row in rows for line in row.urgent), key=lambda found: STATES.index(found[1].entry.state)
    )
    index = {
        "rows": rows,
        "counts": Counter(line.entry.state for row in rows for line in row.lines),
        "states": STATES,
        "urgent": urgent[:_MOST_URGENT],
        "more_urgent": max(0, len(urgent) - _MOST_URGENT),
        "chart": chart.overview(_ranges(rows)),
        "script": Markup(script),  # noqa: S704 - ours
    }
    files = {
        "index.html": _page("index", root="", **common, **index),
        "style.css": f"{_static('style.css')}{_colours()}".encode(),
        "status.json": f"{json_text(status.to_json(), compact=True)}\n".encode(errors="replace"),
    }
    for row in rows:
        files[row.path] = _page("model", root="../", row=row, chart=chart.scatter(_points(row)), **common)
    return files


def _points(row: StatusRow) -> list[chart.MeasuredFile]:
    points = []
    for line in row.lines:
        compared = line.made.compared if line.made else None
        if line.made and compared:
            points.append(
                chart.MeasuredFile(
                    format=line.entry.format,
                    name=line.entry.variant.split("/", 1)[1],
                    size=line.made.size,
                    mean_kl=compared.mean_kl,
                    error=compared.error,
                )
            )
    return points


def _ranges(rows: Sequence[StatusRow]) -> list[chart.Range]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for line in row.lines:
            if line.made and line.mean_kl is not None:
                found.setdefault((line.made.precision, line.entry.format), []).append(line.mean_kl)
    return [
        chart.Range(precision=p, format=f, count=len(kl), low=min(kl), median=median(kl), high=max(kl))
        for p in _PRECISIONS
        for f in format_folders.looks()
        if (kl := found.get((p, f)))
    ]


def _error(quality: Quality) -> str:
    """Return the standard error of a mean KL, rounded up to the last digit that the page shows of that."""
    decimals = len(nats(quality.mean_kl).partition(".")[2])
    return f"{math.ceil(round(quality.error * 10**decimals, 6)) / 10**decimals:.{decimals}f}"


def _page(template: str, **values: Any) -> bytes:
    text = environment().get_template(f"status/{template}.html.j2").render(**values)
    return text.encode(errors="replace")


def _static(name: str) -> str:
    loader = environment().loader
    assert loader is not None  # noqa: S101 - for mypy: ours has one
    return loader.get_source(environment(), f"status/{name}")[0]


def _colours() -> str:
    """Return the styles of the formats: what their marks are filled with, on paper and in the dark."""
    looks = format_folders.looks().items()
    light = "".join(f"\n.{name} {{\n  --shape: {look.colour};\n}}\n" for name, look in looks)
    dark = "".join(f"\n  .{name} {{\n    --shape: {look.dark_colour};\n  }}\n" for name, look in looks)
    return f"{light}\n@media (prefers-color-scheme: dark) {{{dark}}}\n"


def _hub_url(hub: str) -> Any:
    """Return how a repo's address, or that of something in it, is made; None where the Hub has no address."""

    def url(*parts: str) -> str:
        return "/".join((hub, *(quote(part, safe="/") for part in parts)))

    return url


def _when(moment: str) -> Markup | str:
    """Return a moment as a date."""
    try:
        found = dt.datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return Markup('<time datetime="{}">{}</time>').format(found.isoformat(), found.strftime("%Y-%m-%d %H:%M"))


def _age(made: str) -> Any:
    now = dt.datetime.fromisoformat(made)

    def age(moment: str) -> Markup | str:
        """Return how old something is, counted from when the page was made."""
        try:
            found = dt.datetime.fromisoformat(moment)
            seconds = (now - found).total_seconds()
        except (ValueError, TypeError):
            return moment
        return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
            found.isoformat(), found.strftime("%Y-%m-%d %H:%M"), " ".join(_in_words(seconds))
        )

    return age


def _in_words(seconds: float) -> Iterator[str]:
    for unit, length in (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3_600)):
        count = int(abs(seconds) // length)
        if count:
            if seconds < 0:
                yield "in"
            yield f"{count} {unit}{'s' if count > 1 else ''}"
            if seconds > 0:
                yield "ago"
            return
    yield "just now"
