"""Make the files of the status page: index.html, a page for each model, style.css and status.json."""

import base64
import datetime as dt
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, TypeVar
from urllib.parse import quote

from markupsafe import Markup

from bot.cards.figures import nats, percent
from bot.formats import all_formats
from bot.markdown import is_web_address
from bot.status import chart
from bot.status.records import STATES, Entry, Made, Model, Quality, State, Status
from bot.templates import environment

T = TypeVar("T", int, float)

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
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


@dataclass(frozen=True, kw_only=True)
class Line:
    """A variant as a page shows it: how it stands, and what was measured on the file that is there."""

    entry: Entry
    made: Made | None

    @property
    def mean_kl(self) -> float | None:
        """The largest mean KL that the gate looked at."""
        farthest = self.made.farthest if self.made else None
        return farthest.mean_kl if farthest else None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A model in one format: how many variants stand how, worst first, and from where to where their figures go."""

    format: str
    lines: tuple[Line, ...]

    @property
    def states(self) -> list[tuple[State, int]]:
        """The states of its variants, each with how many there are."""
        counts = Counter(line.entry.state for line in self.lines)
        return [(state, counts[state]) for state in STATES if counts[state]]

    @property
    def repos(self) -> list[str]:
        """The repos that hold some of it."""
        return list(dict.fromkeys(line.entry.repo_id for line in self.lines if line.entry.published))

    @property
    def published(self) -> bool:
        """Whether any of it is published."""
        return any(line.entry.published for line in self.lines)

    @property
    def two_sides(self) -> bool:
        """Whether any of its files was measured beyond the LongRoPE switch too."""
        return any(q.side == "long" for line in self.lines if line.made for q in line.made.quality)

    @property
    def sizes(self) -> tuple[int, int] | None:
        """The size of the smallest and the largest, in bytes."""
        return _range([line.made.size for line in self.lines if line.made])

    @property
    def distances(self) -> tuple[float, float] | None:
        """The mean KL of the nearest and the farthest, in nats per token."""
        return _range([line.mean_kl for line in self.lines if line.mean_kl is not None])


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model as a page shows it."""

    model: Model
    lines: tuple[Line, ...]
    changed: str  # when the youngest of its files was built

    @property
    def path(self) -> str:
        """Where its page is. A name that no Hub would take is not put into one of a file."""
        return f"models/{self.id}.html"

    @property
    def id(self) -> str:
        """What names it in an address."""
        name = self.model.repo_id
        if _SAFE_NAME.fullmatch(name):
            return name.replace("/", "--")
        return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Its formats, by name."""
        return {
            name: Cell(format=name, lines=lines)
            for name in all_formats()
            if (lines := tuple(line for line in self.lines if line.entry.format == name))
        }

    @property
    def two_sides(self) -> bool:
        """Whether any of its files was measured beyond the LongRoPE switch too."""
        return any(cell.two_sides for cell in self.cells.values())

    @property
    def known(self) -> list[str]:
        """What runtimes do differently on a side that the gate therefore leaves out."""
        made = (line.made for line in self.lines if line.made and any(not q.gated for q in line.made.quality))
        return list(dict.fromkeys(name for m in made for name in m.known))

    @property
    def urgent(self) -> list[Line]:
        """What a person should look at."""
        return [line for line in self.lines if line.entry.state in ("stuck", "failed")]

    @property
    def tags(self) -> str:
        """What filters look for: ``gguf:published onnx:stuck``."""
        return " ".join(f"{name}:{state}" for name, cell in self.cells.items() for state, _ in cell.states)


def render(status: Status) -> dict[str, bytes]:
    """Return the files of the site by their paths."""
    rows = _rows(status)
    script = _static("script.js")
    common = {
        "status": status,
        "formats": {name: form.title for name, form in all_formats().items()},
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
        "style.css": _static("style.css").encode(),
        "status.json": (json.dumps(status.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n").encode(
            errors="replace"
        ),
    }
    for row in rows:
        files[row.path] = _page("model", root="../", row=row, chart=chart.scatter(_points(row)), **common)
    return files


def _rows(status: Status) -> list[Row]:
    made = {(shelf.repo_id, m.variant): m for shelf in status.shelves for m in shelf.made}
    rows = []
    for model in status.models:
        lines = tuple(
            Line(entry=e, made=made.get((e.repo_id, e.variant)) if e.published else None) for e in model.entries
        )
        youngest = max((line.made.created for line in lines if line.made), default="")
        rows.append(Row(model=model, lines=lines, changed=youngest))
    return rows


def _points(row: Row) -> list[chart.Point]:
    points = []
    for line in row.lines:
        farthest = line.made.farthest if line.made else None
        if line.made and farthest:
            points.append(
                chart.Point(
                    format=line.entry.format,
                    name=line.entry.variant.split("/", 1)[1],
                    size=line.made.size,
                    mean_kl=farthest.mean_kl,
                    error=farthest.error,
                )
            )
    return points


def _ranges(rows: Sequence[Row]) -> list[chart.Range]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for line in row.lines:
            if line.made and line.mean_kl is not None:
                found.setdefault((line.made.precision, line.entry.format), []).append(line.mean_kl)
    return [
        chart.Range(precision=p, format=f, count=len(kl), low=min(kl), median=median(kl), high=max(kl))
        for p in _PRECISIONS
        for f in all_formats()
        if (kl := found.get((p, f)))
    ]


def _error(quality: Quality) -> str:
    """Return the standard error of a mean KL, rounded up to the last digit that the page shows of that."""
    decimals = len(nats(quality.mean_kl).partition(".")[2])
    return f"{math.ceil(round(quality.error * 10**decimals, 6)) / 10**decimals:.{decimals}f}"


def _range(values: Sequence[T]) -> tuple[T, T] | None:
    return (min(values), max(values)) if values else None


def _page(template: str, **values: Any) -> bytes:
    text = environment().get_template(f"status/{template}.html.j2").render(**values)
    return text.encode(errors="replace")


def _static(name: str) -> str:
    loader = environment().loader
    assert loader is not None  # noqa: S101 - for mypy: ours has one
    return loader.get_source(environment(), f"status/{name}")[0]


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
