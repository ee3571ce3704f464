"""The support matrix: every family of Phi in every format, found out by building and verifying a small checkpoint."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bot import catalogue
from bot.catalogue.families import SAMPLES
from bot.context import Context
from bot.errors import SourceError
from bot.proving.prove import prove_all
from bot.records.artifacts import Artifact, Failure, Record, Report, Variant
from bot.records.evidence import Distance
from bot.records.failures import failure, is_refusal, merge_reports
from bot.records.plans import Plan
from bot.steps.plan import plan_releases
from bot.steps.watch import Reader


@dataclass(frozen=True, kw_only=True)
class FamilyFigures(Record):
    """Measurements of a file: ``size`` in bytes, and seconds of building and of verifying it."""

    size: int
    bits_per_weight: float
    distances: tuple[Distance, ...]
    known_behaviours: tuple[str, ...]
    build_seconds: float
    verify_seconds: float


@dataclass(frozen=True, kw_only=True)
class FamilyResult(Record):
    """The result of a family in a format.

    ``refused`` is what the toolchain cannot do, or what is never done; ``reason`` says it in one line. ``failed`` is
    what should not be.
    """

    family: str
    format: str
    variant: str
    status: Literal["verified", "refused", "failed"]
    reason: str
    figures: FamilyFigures | None


def first_defaults() -> tuple[Variant, ...]:
    """Return the default variant of each format, the first where there are several."""
    first: dict[str, Variant] = {}
    for row in catalogue.all_variants().values():
        if row.default:
            first.setdefault(row.format, row)
    return tuple(first.values())


def matrix(
    names: Sequence[str], variants: Sequence[Variant], checkpoint: Callable[[str], Path], context: Context
) -> Iterator[FamilyResult]:
    """Yield a cell for each family and variant. ``checkpoint`` returns the folder of a family's small checkpoint."""
    for name in names:
        found = {c.variant: c for c in _row(name, variants, checkpoint(name), context)}
        yield from (found[v.name] for v in variants)


def _row(family: str, variants: Sequence[Variant], folder: Path, context: Context) -> Iterator[FamilyResult]:
    try:
        todo, report = _run(variants, folder, context)
    except SourceError as error:  # no format can do better
        title = SAMPLES[family].title
        for variant in variants:
            why = failure(title, variant.name, "plan", error)
            yield _not_done(family, replace(why, message=why.message.replace(str(folder), title)), refused=True)
        return
    yield from (_not_done(family, f, refused=is_refusal(f)) for f in (*todo.failures, *report.failures))
    for artifact in report.artifacts:
        yield _verified(family, artifact, todo.jobs[0].release.parameters)


def _run(variants: Sequence[Variant], folder: Path, context: Context) -> tuple[Plan, Report]:
    todo = plan_releases([Reader(hub=context.hub).named(str(folder))], variants)
    report = Report()
    for job in todo.jobs:  # each alone: what one toolchain does not take, another one may
        report = merge_reports(report, prove_all((job,), context))
    return todo, report


def _not_done(family: str, why: Failure, *, refused: bool) -> FamilyResult:
    return FamilyResult(
        family=family,
        format=why.variant.split("/")[0],
        variant=why.variant,
        status="refused" if refused else "failed",
        reason=why.message,
        figures=None,
    )


def _verified(family: str, artifact: Artifact, parameters: int) -> FamilyResult:
    build, evidence = artifact.build, artifact.evidence
    assert evidence is not None  # noqa: S101 - verifying gave it
    return FamilyResult(
        family=family,
        format=build.variant.format,
        variant=build.variant.name,
        status="verified",
        reason="",
        figures=FamilyFigures(
            size=build.size,
            bits_per_weight=round(8 * build.size / parameters, 2),
            distances=evidence.distances,
            known_behaviours=tuple(b.name for b in evidence.known_behaviours),
            build_seconds=build.cost.seconds,
            verify_seconds=evidence.seconds,
        ),
    )
