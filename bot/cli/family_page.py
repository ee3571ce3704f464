"""The page docs/families.md: written of results, and taken up again, so that families can be tried a few at a time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from bot.catalogue.families import FAMILIES, SAMPLES
from bot.cli.family_support import FamilyResult
from bot.errors import ConfigError
from bot.pages import markdown, templates

_OVERVIEW, _FIGURES = "## Overview", "## Every figure"
_REASON = re.compile(r"^(\d+)\. (.+)$", re.MULTILINE)
_KNOWN = re.compile(r"^- (.+)$", re.MULTILINE)
_REFUSED = re.compile(r"(refused|failed) \((\d+)\)")


@dataclass(frozen=True, kw_only=True)
class TakenCell:
    """A cell of the overview as a page has it: figures or a status, and the reason of the latter, all in Markdown."""

    text: Markup
    reason: Markup | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A family on the page: by ``results``, or ``taken`` from a page, with the ``lines`` of its figures there."""

    title: str
    results: tuple[FamilyResult, ...] = ()
    taken: tuple[TakenCell, ...] = ()
    lines: tuple[Markup, ...] = ()

    @property
    def reasons(self) -> tuple[Markup, ...]:
        """The reasons of what is not there, in Markdown."""
        new = [markdown.escape(r.reason) for r in self.results if r.reason]
        return (*new, *(cell.reason for cell in self.taken if cell.reason is not None))


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page says. ``known`` are the known behaviours of runtimes, in Markdown, of all families together."""

    variants: tuple[str, ...]
    rows: tuple[Row, ...]
    known: tuple[Markup, ...]


def page_of(cells: Sequence[FamilyResult]) -> Page:
    """Return the page of results."""
    families = dict.fromkeys(c.family for c in cells)
    rows = tuple(Row(title=SAMPLES[f].title, results=tuple(c for c in cells if c.family == f)) for f in families)
    names = dict.fromkeys(k for c in cells if c.figures for k in c.figures.known_behaviours)
    return Page(
        variants=tuple(dict.fromkeys(c.variant for c in cells)),
        rows=rows,
        known=tuple(map(markdown.escape, names)),
    )


def read_page(path: Path) -> Page:
    """Return what a page says, as it says it. Raises ConfigError for a file that is not such a page."""
    hint = "Give a page that `phi-bot families --markdown` printed."
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read", hint=hint) from error
    overview, found, figures = text.partition(_OVERVIEW)[2].partition(_FIGURES)
    heads, table = _table(overview)
    _, details = _table(figures)
    reasons = {number: Markup(reason) for number, reason in _REASON.findall(overview)}  # noqa: S704 - Markdown already
    rows = []
    for title, *cells in table:
        taken = tuple(_taken(cell, reasons) for cell in cells)
        lines = tuple(Markup(f"| {' | '.join(line)} |") for line in details if line[0] == title)  # noqa: S704
        rows.append(Row(title=title, taken=taken, lines=lines))
    if not found or not rows or any(len(row.taken) != len(heads) - 1 for row in rows):
        raise ConfigError(f"{path} is not a page of families", hint=hint)
    return Page(
        variants=tuple(head.strip("`") for head in heads[1:]),
        rows=tuple(rows),
        known=tuple(Markup(name) for name in _KNOWN.findall(overview)),  # noqa: S704
    )


def joined(new: Page, old: Page) -> Page:
    """Return the new page with the rows of other families that an old one has, in the order of the families.

    A page does not say which family has which known behaviour, so all of them stay. Raises ConfigError for pages of
    different variants.
    """
    if new.variants != old.variants:
        raise ConfigError(
            f"the page has {', '.join(old.variants)}, and what was tried is {', '.join(new.variants)}",
            hint="Try the variants that the page has.",
        )
    rows = {row.title: row for row in (*old.rows, *new.rows)}
    order = [family.title for family in SAMPLES.values()]
    kept = sorted(rows.values(), key=lambda row: order.index(row.title) if row.title in order else len(order))
    return Page(variants=new.variants, rows=tuple(kept), known=tuple(dict.fromkeys((*old.known, *new.known))))


def render(page: Page) -> str:
    """Return a page in Markdown: an overview, every figure, and the reasons of what is not there."""
    template = templates.environment().get_template("families.md.j2")
    reasons = list(dict.fromkeys(reason for row in page.rows for reason in row.reasons))
    there = {row.title for row in page.rows}
    missing = [family.title for family in FAMILIES.values() if family.title not in there]
    return template.render(page=page, reasons=reasons, missing=missing)


def _table(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the first table of a text, as cells in Markdown."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    head, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines or [""])
    return head, rows


def _taken(cell: str, reasons: dict[str, Markup]) -> TakenCell:
    match = _REFUSED.fullmatch(cell)
    if match is None:
        return TakenCell(text=Markup(cell), reason=None)  # noqa: S704
    return TakenCell(text=Markup(match[1]), reason=reasons.get(match[2]))  # noqa: S704
