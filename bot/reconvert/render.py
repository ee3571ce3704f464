"""A comparison as Markdown, for one comment and for a job's summary. Every text in it may be a stranger's."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from bot.pages import templates
from bot.pages.numbers import nats, percent
from bot.printable import duration, size
from bot.reconvert.records import ComparedVariant, Comparison, Figure, Rebuilds, SideMeasurement, What
from bot.reconvert.verdict import ERRORS, ORDER, SIZE, resized
from bot.records.base import Json

MARKER = "reconversion"  #: of the one comment on a pull request
LARGEST = 65_000  # characters: GitHub takes 65,536 of a comment, and its marker takes some
_ROOM = ((200, 12_000, 500), (60, 4_000, 200), (20, 1_000, 100), (5, 200, 60))  # rows, a diff, a text

_LARGEST_NUMBER, _LONGEST = 10**15, 50_000
_NOTHING = "\u2013"  # a dash
_VERDICTS = {
    "better": "better",
    "worse": "worse",
    "same": "the same within the error",
    "same bytes": "the same bytes",
    "new": "new",
    "gone": "gone",
    "refused": "refused",
    "failed": "failed",
    "fails the gate": "fails the gate",
}
_WHAT: dict[What, str] = {
    "recipe": "Recipe",
    "lock": "Toolchain lock",
    "added": "New variant",
    "removed": "Removed variant",
    "code": "Code that builds or measures",
    "steps": "Code that every build goes through",
    "measuring": "Reference: texts, code or lock",
    "importance": "Importance matrices: text or code",
    "sample": "Sample checkpoints",
    "gate": "Gate, in multiples of the cost of plain rounding",
    "cards": "Cards",
    "pictures": "Pictures on cards",
    "plan": "Planning: what is due, and where it is built",
    "publishing": "Publishing",
    "commands": "Commands and the Action",
    "reports": "Status page, summaries and comments",
    "config": "Configuration",
    "model": "Model",
}


def render(comparison: Comparison) -> str:
    """Return a comparison as Markdown of at most 65,000 characters: what has no room is counted, or cut and said so."""
    comparison = Comparison.from_json(_sane(comparison.to_json()))
    template = templates.environment().get_template("comparison.md.j2")
    text = ""
    for rows, diff, longest in _ROOM:
        text = template.render(
            c=comparison,
            headline=_headline(comparison),
            rebuilt=_rebuilt(comparison),
            what=_WHAT,
            verdicts=_VERDICTS,
            sizes=_sizes,
            seconds=_seconds,
            memory=_memory,
            reasons=_reasons(comparison.rows),
            sides=[s for s in ("short", "long") if any(_figure(r, s) for r in comparison.rows)],
            kl=_kl,
            top=_top,
            pair=_pair,
            errors=ERRORS,
            percent=100 * SIZE,
            most=rows,
            diff=diff,
            longest=longest,
        )
        if len(text) <= LARGEST:
            break
    return f"{text.strip()[:LARGEST]}\n"


def _sane(value: Json) -> Json:
    """Return a JSON value with nothing in it that is too large to be shown: a stranger may have written it."""
    match value:
        case bool() | None:
            return value
        case int() | float():
            return max(-_LARGEST_NUMBER, min(value, _LARGEST_NUMBER))
        case str():
            return value[:_LONGEST]
        case list():
            return [_sane(v) for v in value]
        case dict():
            return {k: _sane(v) for k, v in value.items()}
    raise TypeError(type(value))


def _headline(c: Comparison) -> str:
    """Return the verdict in one line, without its lead."""
    if c.problem:
        return "The head cannot be compared"
    if c.nothing:
        same = (
            "the model is the same"
            if c.kind == "model"
            else "recipes, locks, code, gates, cards and models are the same"
        )
        return f"Affects nothing: {same}"
    if not c.rows:
        kinds = dict.fromkeys(_WHAT[change.what].split(",")[0].lower() for change in c.changes)
        return f"Nothing was measured; changed: {'; '.join(kinds)}"
    counts = Counter(r.verdict for r in c.rows)
    return ", ".join(f"{counts[v]} {_VERDICTS[v]}" for v in ORDER if counts[v])


def _rebuilt(c: Comparison) -> str:
    """Say in one line what merging has built anew."""
    if c.kind == "model" or c.problem or c.nothing:
        return ""
    plan = c.rebuilds
    if plan is None:
        keyed = sum(change.what == "recipe" for change in c.changes)
        locks = [change.name for change in c.changes if change.what == "lock"]
        parts = [f"{keyed} variants" if keyed != 1 else "one variant"] if keyed else []
        parts += [f"all variants of {', '.join(locks)}"] if locks else []
        if parts:
            return f"Everything published of {' and '.join(parts)} is built anew."
        unknown = any(change.what in ("config", "added", "removed") for change in c.changes)
        return "Without a namespace, nothing is planned." if unknown else "No publication is built anew."
    if plan.problem:
        return "The builds that merging causes could not be planned."
    if not plan.jobs:
        return f"No publication in {plan.namespace} is built anew."
    variants = sum(len(j.variants) for j in plan.jobs)
    models = len({j.release for j in plan.jobs})
    return f"Merging builds {variants} variants of {models} models for {plan.namespace}: {_takes(plan)}."


def _takes(plan: Rebuilds) -> str:
    seconds, cost = sum(j.seconds for j in plan.jobs), sum(j.cost for j in plan.jobs)
    return f"about {duration(seconds)} of runners, ${cost:.2f}"


def _figure(row: ComparedVariant, side: str) -> bool:
    return any(f.side == side for m in (row.before, row.after) if m is not None for f in m.figures)


def _pair(row: ComparedVariant, side: str) -> tuple[Figure | None, Figure | None]:
    """Return the figures of both sides of a change, on one side of the switch."""
    before, after = (
        next((f for f in m.figures if f.side == side), None) if m is not None else None for m in (row.before, row.after)
    )
    return before, after


def _kl(figure: Figure | None) -> str:
    return _NOTHING if figure is None else _with_error(nats(figure.mean_kl), figure.mean_kl_error)


def _top(figure: Figure | None) -> str:
    return _NOTHING if figure is None else f"{_with_error(percent(figure.top1), 100 * figure.top1_error)} %"


def _seconds(measured: SideMeasurement | None, name: str) -> str:
    value = getattr(measured, name, 0.0)
    return f"{value:.1f}" if value else _NOTHING


def _memory(measured: SideMeasurement | None) -> str:
    return size(measured.peak_memory) if measured is not None and measured.peak_memory else _NOTHING


def _with_error(text: str, error: float) -> str:
    """Return a figure with its standard error, rounded up to the figure's last digit."""
    decimals = len(text.partition(".")[2])
    return f"{text} ± {math.ceil(round(error * 10**decimals, 6)) / 10**decimals:.{decimals}f}"


def _sizes(row: ComparedVariant) -> str:
    """Return both sizes, and by how much they differ where that is much."""
    before, after = (size(m.size) if m is not None and m.size else _NOTHING for m in (row.before, row.after))
    share = resized(row)
    if share is None:
        return before if before == after else f"{before} → {after}"
    return f"{before} → {after} ({100 * share:+.1f} %)"


def _reasons(rows: Sequence[ComparedVariant]) -> list[str]:
    """Return why files were not measured, or not let through: each reason once, with what it is about."""

    def every() -> Iterator[tuple[str, str]]:
        for row in rows:
            for side, measured in (("base", row.before), ("head", row.after)):
                if measured is not None and measured.reason:
                    yield f"{side}: {measured.reason}", f"{row.variant} of {row.model}"

    found: dict[str, list[str]] = {}
    for reason, where in every():
        found.setdefault(reason, []).append(where)
    return [f"{', '.join(where[:3])}{' and others' if len(where) > 3 else ''}, {why}" for why, where in found.items()]
