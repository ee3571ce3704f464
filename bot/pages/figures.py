"""The figures of a card: one row for each build, and which one to take. All of it comes from the records."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from markupsafe import Markup

from bot import devices
from bot.formats import phi
from bot.pages import markdown
from bot.pages.numbers import Cost, cost, nats, percent, perplexity, rounded, with_error
from bot.records.artifacts import BuildRecord, Calibration, FileEntry, Imatrix, ProvenBuild, Release
from bot.records.evidence import Distance, Evidence, KnownBehaviour, ReadDifferently, Side, is_judged

Measured = TypeVar("Measured", Imatrix, Calibration)

CLOSE_PERCENT = 95  # of tokens that a recommended file names as the original does


@dataclass(frozen=True, kw_only=True)
class CardRow:
    """A build as a card shows it.

    ``label`` is a file of the repo, a folder (with a slash), or says that it is all files. ``files`` have their paths
    in the repo. ``bits`` are stored for each weight of the original, all files counted; None if that has no weights.
    """

    label: str
    build: BuildRecord
    evidence: Evidence
    files: tuple[FileEntry, ...]
    bits: float | None

    @property
    def where(self) -> Markup:
        """The label as Markdown."""
        return markdown.escape(self.label) if self.label.startswith("all ") else markdown.code(self.label)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.build.size

    @property
    def main_file(self) -> FileEntry:
        """The largest file."""
        return max(self.files, key=lambda f: f.size)

    @property
    def precision(self) -> str:
        """The precision class, and the bits measured: ``int4 (4.9)``."""
        bits = f" ({self.bits:.1f})" if self.bits is not None else ""
        return f"{self.build.variant.precision}{bits}"

    @property
    def options(self) -> list[str]:
        """The recipe's options as ``key=value``."""
        return [f"{key}={value}" for key, value in sorted(self.build.variant.options.items())]

    @property
    def top1(self) -> str:
        """In percent, on each side, how often its likeliest token is the original's."""
        return _both(percent(d.figures.top1_agreement) for d in self.recommended)

    @property
    def perplexity(self) -> str:
        """On each side, its perplexity over the original's."""
        return _both(perplexity(d.figures.perplexity_ratio) for d in self.recommended)

    @property
    def cost(self) -> Cost | None:
        """What rounding cost, as text; None where it could not be measured."""
        return cost(self.evidence)

    @property
    def recommended(self) -> list[Distance]:
        """The distances in the setting that the card recommends: the short side, then the long one."""
        return sorted(self.evidence.recommended, key=_side)

    @property
    def compared(self) -> Distance | None:
        """The distance by which files are compared; None where none was measured."""
        return self.evidence.compared

    @property
    def stood_in_for(self) -> dict[str, str] | None:
        """The device that it was not run on, and what it was proven on, as text; None where it ran on its own."""
        if not self.evidence.device:
            return None
        return {"device": devices.called(self.build.variant.target), "on": devices.needed(self.evidence.device)}

    @property
    def agreement(self) -> float:
        """The share of tokens named as the original does, there."""
        return self.compared.figures.top1_agreement if self.compared else 0.0

    def kl(self, side: Side) -> str:
        """Return the mean KL of a side with its standard error; † marks one on which the runtime is known to differ."""
        gated = self.evidence.gated
        found = [with_error(d, "mean_kl") + ("" if d in gated else "†") for d in self.recommended if d.side == side]
        return found[0] if found else "not measured"

    def is_as_close_as(self, other: "CardRow") -> bool:
        """Say whether the two distances from the original are equal within one standard error of their difference."""
        if self.compared is None or other.compared is None:
            return self.compared is other.compared
        errors = (self.compared.standard_errors.mean_kl, other.compared.standard_errors.mean_kl)
        return abs(self.compared.figures.mean_kl - other.compared.figures.mean_kl) <= math.hypot(*errors)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of the builds for one device to take: without further thought, for quality, and for size.

    ``closest`` is the smallest of those that measuring cannot tell from the nearest one; ``equal`` are the others.
    """

    target: str
    rows: tuple[CardRow, ...]
    best: CardRow
    closest: CardRow
    equal: tuple[CardRow, ...]
    smallest: CardRow

    @property
    def called(self) -> str:
        """The people who have the device, as text."""
        return devices.called(self.target)

    @property
    def is_close(self) -> bool:
        """Say whether ``best`` is the smallest of those near the original; if none is near, it is the nearest."""
        return _is_close(self.best)


def rows(builds: Iterable[ProvenBuild], release: Release) -> tuple[CardRow, ...]:
    """Return builds of a release, by device and then by size."""
    parameters = release.parameters
    found = [_row(proven, parameters) for proven in builds]
    return tuple(sorted(found, key=_place))


def _place(row: CardRow) -> tuple[int, str, int, str]:
    variant = row.build.variant
    return devices.order(variant.target), variant.target, row.size, variant.name


def choices(found: Sequence[CardRow]) -> tuple[Choice, ...]:
    """Return the choice for each device, in the order of ``rows``."""
    return tuple(
        _choice(target, tuple(group)) for target, group in groupby(found, key=lambda r: r.build.variant.target)
    )


@dataclass(frozen=True, kw_only=True)
class MeasuringSetup:
    """The conditions of the measurements.

    ``switch`` is the number of tokens past which the model takes its long rotary factors, where both sides of it were
    measured; ``tokens`` the fewest that any row was measured on.
    ``kinds`` are those of the texts on the short side. ``settings`` are those of a runtime that were measured beside
    the recommended one.
    """

    runtimes: tuple[str, ...]
    machines: tuple[str, ...]
    kinds: tuple[str, ...]
    settings: tuple[str, ...]
    tokens: int
    switch: int | None
    known_behaviours: tuple[KnownBehaviour, ...]
    read_differently: tuple[ReadDifferently, ...]


def measured(found: Sequence[CardRow], release: Release) -> MeasuringSetup:
    """Return how the figures of rows came about."""
    evidence = [r.evidence for r in found]
    both = any(d.side == "long" for e in evidence for d in e.distances)
    return MeasuringSetup(
        runtimes=tuple(dict.fromkeys(e.runtime for e in evidence)),
        machines=tuple(dict.fromkeys(e.machine for e in evidence)),
        kinds=tuple(dict.fromkeys(kind for r in found for d in r.recommended[:1] for kind in d.by_kind)),
        settings=tuple(dict.fromkeys(d.setting for e in evidence for d in e.distances if d.setting)),
        tokens=min(sum(d.tokens for d in e.recommended) for e in evidence),
        switch=switch(release) if both else None,
        known_behaviours=tuple(dict.fromkeys(b for e in evidence for b in e.known_behaviours)),
        read_differently=tuple(dict.fromkeys(r for e in evidence for r in e.read_differently)),
    )


def switch(release: Release) -> int | None:
    """Return the number of tokens past which a LongRoPE model takes its long factors; None for any other model."""
    if not phi.is_longrope(release.config):
        return None
    key = "original_max_position_embeddings"
    settings = phi.rope_scaling(release.config)
    return phi.number(release.config, key, phi.number(settings, key, 0)) or None


def context(release: Release) -> int:
    """Return a context length, in tokens, for a first try: at most 4096, and on the near side of a LongRoPE switch."""
    longest = phi.number(release.config, "max_position_embeddings", 4096)
    return min(4096, longest, switch(release) or longest)


def checks(found: Iterable[CardRow]) -> list[tuple[str, bool, str, list[CardRow]]]:
    """Return the checks as (name, passed, detail, rows that it says the same of), in the order of checking.

    Those of distances and costs are there only where they failed: tables have the figures.
    """
    grouped: dict[tuple[str, bool, str], list[CardRow]] = {}
    for row in found:
        for check in row.evidence.checks:
            if not (check.passed and is_judged(check.name)):
                grouped.setdefault((check.name, check.passed, check.detail), []).append(row)
    order = list(dict.fromkeys(name for name, _, _ in grouped))
    return [(*said, members) for said, members in sorted(grouped.items(), key=lambda item: order.index(item[0][0]))]


def origins(found: Iterable[CardRow]) -> list[tuple[BuildRecord, list[CardRow]]]:
    """Return one build for each way in which rows were made (bot, toolchain, source), and those rows."""
    grouped: dict[str, list[CardRow]] = {}
    for row in found:
        build = row.build
        grouped.setdefault(repr((build.bot_version, build.toolchain, build.source)), []).append(row)
    return [(members[0].build, members) for members in grouped.values()]


def matrices(found: Iterable[CardRow]) -> list[tuple[Imatrix, list[CardRow]]]:
    """Return each importance matrix that rows were quantized by, and those rows."""
    return _by_content((row.build.imatrix, row) for row in found)


def calibrations(found: Iterable[CardRow]) -> list[tuple[Calibration, list[CardRow]]]:
    """Return the second moments that rows were rounded for, and those rows."""
    return _by_content((row.build.calibration, row) for row in found)


@dataclass(frozen=True, kw_only=True)
class ChosenTypes:
    """The types of the tensors of a row, chosen by what they cost, for its card.

    ``kinds`` are the types, and how many tensors have each. ``chosen`` and ``own`` are what the choice and the tool's
    own mix are predicted to cost. ``limit`` is the size in bytes that a person gave, None where the tool's own mix
    gives it; with one, ``mix`` is what the tool calls its own, "" if none is as small.
    """

    row: CardRow
    kinds: tuple[tuple[str, int], ...]
    chosen: str
    own: str
    gains: bool
    limit: int | None
    mix: str


def mixes(found: Iterable[CardRow]) -> list[ChosenTypes]:
    """Return the rows whose tensors have types that were chosen by what they cost."""
    return [
        ChosenTypes(
            row=row,
            kinds=tuple((kind, len(names)) for kind, names in t.types.items()),
            chosen=nats(t.predicted_kl),
            own="" if t.own_kl is None else nats(t.own_kl),
            gains=t.gains,
            limit=row.build.variant.size_limit,
            mix=t.own,
        )
        for row in found
        if (t := row.build.types_by_cost) is not None
    ]


def _by_content(found: Iterable[tuple[Measured | None, CardRow]]) -> list[tuple[Measured, list[CardRow]]]:
    grouped: dict[str, tuple[Measured, list[CardRow]]] = {}
    for measured, row in found:
        if measured is not None:
            grouped.setdefault(measured.sha256, (measured, []))[1].append(row)
    return list(grouped.values())


def trials(found: Iterable[CardRow]) -> list[tuple[CardRow, str, str, bool]]:
    """Return the rows that tried an importance matrix: the mean KL without and with one, and whether it is used."""
    return [
        (row, rounded(nats(t.without_kl), t.without_error), rounded(nats(t.with_kl), t.with_error), t.gains)
        for row in found
        if (t := row.build.imatrix_trial) is not None
    ]


def checksums(found: Iterable[CardRow]) -> str:
    """Return the sha256 of all files in the form that ``sha256sum --check`` reads."""
    return "\n".join(f"{f.sha256}  {f.path}" for r in found for f in r.files)


def _row(proven: ProvenBuild, parameters: int) -> CardRow:
    build = proven.build
    folder = f"{build.path_in_repo}/" if build.path_in_repo else ""
    files = tuple(FileEntry(path=folder + f.path, size=f.size, sha256=f.sha256) for f in build.files)
    label = folder or (files[0].path if len(files) == 1 else f"all {len(files)} files")
    bits = build.size * 8 / parameters if parameters else None
    return CardRow(label=label, build=build, evidence=proven.evidence, files=files, bits=bits)


def _is_close(row: CardRow) -> bool:
    return row.agreement * 100 >= CLOSE_PERCENT


def _choice(target: str, members: tuple[CardRow, ...]) -> Choice:
    nearest = min(members, key=lambda r: (r.compared.figures.mean_kl if r.compared else math.inf, r.size))
    equal = sorted((r for r in members if r is nearest or r.is_as_close_as(nearest)), key=lambda r: r.size)
    best = min((r for r in members if _is_close(r)), key=lambda r: r.size, default=equal[0])
    smallest = min(members, key=lambda r: r.size)
    return Choice(target=target, rows=members, best=best, closest=equal[0], equal=tuple(equal[1:]), smallest=smallest)


def _side(distance: Distance) -> int:
    return ("short", "long").index(distance.side)


def _both(sides: Iterable[str]) -> str:
    return " / ".join(sides) or "not measured"
