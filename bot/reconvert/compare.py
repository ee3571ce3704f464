"""Compare two sides, from a look at what they are to the figures of what they build."""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bot import source
from bot.catalogue.families import DEFAULT, FAMILIES
from bot.progress import Display
from bot.reconvert import affected, child
from bot.reconvert.affected import Affected
from bot.reconvert.canary import Bench, make_sample
from bot.reconvert.cards import difference
from bot.reconvert.child import ChildError, Code
from bot.reconvert.rebuilds import rebuilds
from bot.reconvert.records import (
    COMPARISON_VERSION,
    CardDiff,
    ComparedVariant,
    Comparison,
    Difference,
    Fingerprint,
    SideMeasurement,
    What,
)
from bot.reconvert.sides import describe_sides, identical
from bot.reconvert.verdict import refused_on_both_sides, verdict
from bot.workspace import Workspace

_NAMESPACE = "your-name"  # on cards, where none is known


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """The request of a comparison: families and variants (empty: the affected ones), publications of a namespace.

    Nothing is built where there is to be no ``canary``.
    """

    namespace: str | None = None
    families: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    canary: bool = True


def compare_code(
    base: Path, head: Path, wish: ComparisonRequest, *, workspace: Workspace, display: Display
) -> Comparison:
    """Compare two checkouts: of this project, or of a publisher's repository with a phi-bot.toml.

    A head that cannot be read is a finding, and a base that cannot be raises ChildError.
    """
    started = time.monotonic()
    one, other = child.code_of(base), child.code_of(head)
    if identical(one, other):
        return Comparison(version=COMPARISON_VERSION, kind="code", seconds=_since(started))
    with child.copied(one) as one, child.copied(other) as other:
        try:
            sides = describe_sides(one, other)
        except ChildError as error:
            if str(error).startswith("the base"):
                raise
            return Comparison(version=COMPARISON_VERSION, kind="code", problem=str(error), seconds=_since(started))
        changes = affected.changes(sides)
        found = Comparison(version=COMPARISON_VERSION, kind="code", changes=changes)
        if wish.namespace and affected.alter_builds(changes):
            with display.task(f"Planning what would be built in {wish.namespace}"):
                found = replace(found, rebuilds=rebuilds(one, other, wish.namespace))
        if changes and wish.canary:
            changed = frozenset(c.what for c in changes)
            both = _Sides(base=one, head=other, before=sides.base, after=sides.head, changed=changed)
            found = _with_canary(found, both, wish, workspace, display)
        return replace(found, notes=(*found.notes, *_notes(found)), seconds=_since(started))


def compare_models(
    base: Path | None,
    head: Path,
    wish: ComparisonRequest,
    *,
    config: Path | None,
    workspace: Workspace,
    display: Display,
) -> Comparison:
    """Compare two folders of a model, both built by this code, each against its own original weights.

    Without a base it is a report on the head alone. Only the variants and the canary of the ``wish`` count. ``config``
    is the phi-bot.toml with the gates. Raises what ``source.local_release`` raises for the head.
    """
    started = time.monotonic()
    with display.task("Reading the model") as task:
        after = source.local_release(head, task)
        before = source.local_release(base, task) if base is not None else None
    found = Comparison(version=COMPARISON_VERSION, kind="model")
    if before is None or before.content_digest != after.content_digest:
        change = Difference(
            what="model",
            name=after.name,
            before=before.content_digest[:12] if before else "",
            after=after.content_digest[:12],
        )
        found = replace(found, changes=(change,))
    if found.changes and wish.canary:
        code = child.ours(Path.cwd())
        with workspace.scratch() as scratch:
            results = []
            for side, folder in (("base", base), ("head", head)):
                bench = Bench(code=code, work=scratch / side, config=config)
                with display.task(f"Measuring the {side}"):
                    measured = bench.measure(after.name, folder.resolve(), wish.variants, display.say) if folder else {}
                results.append(measured)
        found = replace(
            found, rows=tuple(_row(after.name, v, results[0].get(v), results[1].get(v)) for v in wish.variants)
        )
    return replace(found, seconds=_since(started))


@dataclass(frozen=True, kw_only=True)
class _Sides:
    base: Code
    head: Code
    before: Fingerprint
    after: Fingerprint
    changed: frozenset[What]


def _with_canary(
    found: Comparison, sides: _Sides, wish: ComparisonRequest, workspace: Workspace, display: Display
) -> Comparison:
    """Add rows and cards, from what both sides build of small models."""
    rows = [
        a
        for a in affected.affected(found.changes, sides.before, sides.after)
        if not wish.variants or a.name in wish.variants
    ]
    cards = [c.name for c in found.changes if c.what == "cards"]
    families = wish.families or tuple(FAMILIES)
    if not rows:
        families = wish.families[:1] or (DEFAULT,)  # one card shows what a template does
    if not rows and not cards:
        return found
    notes = []
    measured: list[ComparedVariant] = []
    with workspace.scratch() as scratch:
        base = Bench(code=sides.base, work=scratch / "base")
        head = Bench(code=sides.head, work=scratch / "head")
        models: dict[str, Path] = {}
        with display.task("Measuring the base"):
            for name in families:
                try:
                    models[name] = _sample(sides, workspace, scratch, name, display)
                except ChildError as error:
                    notes.append(f"There is no sample of {FAMILIES[name].title}: {error}")
            before = _measure(base, models, [a.name for a in rows if a.before and a.after], display)
            extra = _for_cards(cards, rows, sides)
            if extra and models:
                first = DEFAULT if DEFAULT in models else next(iter(models))
                _measure(base, {first: models[first]}, extra, display)
        if "measuring" not in sides.changed:
            _hand_on(base.work, head.work)
        with display.task("Measuring the head"):
            after = _measure(head, models, [a.name for a in rows if a.after], display)
        for name in models:
            title = FAMILIES[name].title
            measured += [_row(title, a.name, before.get((name, a.name)), after.get((name, a.name))) for a in rows]
        with display.task("Rendering cards"):
            namespace = wish.namespace or _NAMESPACE
            diffs = tuple(_card(name, sides, base, namespace) for name in cards)
    refused = [f"{r.variant} of {r.model}" for r in measured if refused_on_both_sides(r)]
    if refused:
        notes.append(f"Refused by its toolchain, before and after: {', '.join(refused)}")
    return replace(
        found, rows=tuple(r for r in measured if not refused_on_both_sides(r)), cards=diffs, notes=tuple(notes)
    )


def kept_sample(workspace: Workspace, side: Fingerprint, family: str) -> Path:
    """Return the folder of a family's sample in a working folder: another one for each code that makes samples."""
    return workspace.root / "samples" / side.sample[:16] / family


def _sample(sides: _Sides, workspace: Workspace, scratch: Path, family: str, display: Display) -> Path:
    """Return the sample of a family, kept until what makes it changes. It is made by the base unless that changes."""
    same = "sample" not in sides.changed
    folder = kept_sample(workspace, sides.before, family) if same else scratch / "samples" / family
    if not workspace.has(folder):
        display.say(f"Making a small {FAMILIES[family].title}")
        make_sample(sides.base if same else sides.head, folder, family)
    return folder


def _measure(
    bench: Bench, models: dict[str, Path], variants: Sequence[str], display: Display
) -> dict[tuple[str, str], SideMeasurement]:
    found: dict[tuple[str, str], SideMeasurement] = {}
    for name, folder in models.items() if variants else ():
        results = bench.measure(FAMILIES[name].title, folder, variants, display.say)
        found |= {(name, v): m for v, m in results.items()}
    return found


def _for_cards(cards: Sequence[str], rows: Sequence[Affected], sides: _Sides) -> list[str]:
    """Return variants to build for their cards alone: the first default row of each format that no row is built of."""
    there = {a.format for a in rows if a.before and a.after}
    wanted = []
    for name in cards:
        mine = [v.name for v in sides.before.said.variants if v.name.split("/", 1)[0] == name and v.default]
        if name not in there and mine:
            wanted.append(mine[0])
    return wanted


def _card(name: str, sides: _Sides, base: Bench, namespace: str) -> CardDiff:
    folder = next((f for (_, v), f in base.proven.items() if v.split("/", 1)[0] == name), None)
    if folder is None:
        return CardDiff(format=name, problem="the base built nothing that a card could be rendered for")
    return difference(name, sides.base, sides.head, folder, namespace=namespace)


def _hand_on(base: Path, head: Path) -> None:
    """Give the head the references that the base computed: the same code would compute the same ones."""
    if (base / "references").is_dir():
        head.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            shutil.copytree(base / "references", head / "references", copy_function=os.link)


def _row(model: str, variant: str, before: SideMeasurement | None, after: SideMeasurement | None) -> ComparedVariant:
    return ComparedVariant(model=model, variant=variant, before=before, after=after, verdict=verdict(before, after))


def _notes(found: Comparison) -> list[str]:
    changed = {c.what for c in found.changes}
    notes = []
    if changed & {"measuring", "steps", "code", "importance"}:
        notes.append(
            "Each side was measured by its own code, and that differs: figures may differ for that reason alone."
        )
    silent = affected.unkeyed(found.changes)
    other = {r.variant.split("/", 1)[0] for r in found.rows if r.verdict in ("better", "worse", "same")}
    return notes + [
        f"The code of {name} writes other bytes under the same build keys: published files are not built anew. "
        f"Raise the version in bot/formats/{name}/format.py if they should be."
        for name in sorted(silent & other)
    ]


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)
