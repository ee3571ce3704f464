"""The pictures of a card: what is in them. They are drawn in the toolchain ``plots``."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot import format_folders, toolchains
from bot.errors import PhiBotError
from bot.formats.registry import all_formats
from bot.machines import worker_limits
from bot.pages import figures
from bot.printable import one_line
from bot.progress import Display
from bot.records.artifacts import ProvenBuild, Release
from bot.records.digests import digest_of
from bot.records.evidence import Evidence
from bot.records.tasks import PlotCurve, PlotLook, PlotPoint, PlotTask
from bot.toolchains.enter import Supervision, run_worker
from bot.toolchains.install import ensure
from bot.workspace import Workspace

QUALITY, POSITIONS = "quality.png", "positions.png"
PICTURES = (QUALITY, POSITIONS)

_USUAL_BITS = 4.5  # for each weight: of the builds of a format, the one nearest to it stands for its runtime


@dataclass(kw_only=True)
class Plotter:
    """Draws pictures, and keeps them: whoever has to publish once more does not draw them once more.

    Where drawing is not possible it says so once, and draws none: a card is whole without them.
    """

    workspace: Workspace
    display: Display
    _failed: bool = field(default=False, init=False)

    def draw(self, release: Release, own: Sequence[ProvenBuild], others: Sequence[ProvenBuild]) -> dict[str, bytes]:
        """Return the pictures of the repo that holds ``own``, by their names there; see ``plot_task``."""
        task = plot_task(release, own, others)
        kept = self.workspace.pictures(_digest(task))
        if not self.workspace.has(kept) and (task.points or task.curves) and not self._failed:
            try:
                self._draw(task, kept)
            except PhiBotError as error:
                self._failed = True
                self.display.say(f"The cards come without pictures: {error.message}")
        return {name: (kept / name).read_bytes() for name in PICTURES if (kept / name).is_file()}

    def _draw(self, task: PlotTask, kept: Path) -> None:
        toolchain = ensure("plots", self.display)
        with self.workspace.scratch() as folder:
            out = folder / "pictures"
            out.mkdir()
            run_worker(
                toolchain,
                "bot.worker.plots",
                "draw",
                replace(task, out=str(out)),
                Supervision(log=folder / "plots.log", on_event=lambda _: None, limits=worker_limits.default_limits()),
            )
            kept.parent.mkdir(exist_ok=True)
            with suppress(OSError):  # another process drew the same ones in the meantime
                out.rename(kept)


def _digest(task: PlotTask) -> str:
    """Return the digest of all that decides what pictures look like: the figures, and what draws them."""
    drawing = hashlib.sha256((Path(__file__).parents[1] / "worker" / "plots.py").read_bytes()).hexdigest()
    return digest_of([task.to_json(), toolchains.lock_digest("plots"), drawing])


def plot_task(release: Release, own: Sequence[ProvenBuild], others: Sequence[ProvenBuild]) -> PlotTask:
    """Return what to draw for the repo that holds ``own``, beside ``others`` made from the same release.

    A point is the distance that files are compared by. One alone is not a comparison, so then there are none. Curves
    are only of models with a LongRoPE switch and of builds that were read on both sides of it, one for each format: of
    the repo's own builds where it has some. A setting of its runtime has one too, if it is known to do something else.
    """
    points = [_point(row, own=True) for row in figures.rows(own, release)]
    points += [_point(row, own=False) for row in figures.rows(others, release)]
    known = tuple(p for p in points if p is not None)
    switch = figures.switch(release)
    along = [[b for b in builds if switch is not None and _reaches(b.evidence, switch)] for builds in (own, others)]
    shown = _one_of_each_format(along[0], along[1], release)
    return PlotTask(
        out="",
        model=one_line(release.name),
        looks=tuple(
            PlotLook(format=all_formats()[name].title, colour=look.middle_colour, shape=look.shape)
            for name, look in format_folders.looks().items()
        ),
        points=known if len(known) > 1 else (),
        curves=tuple(curve for row in shown for curve in _curves(row)),
        switch=switch,
    )


def _point(row: figures.CardRow, *, own: bool) -> PlotPoint | None:
    compared = row.compared
    if compared is None or row.bits is None:
        return None
    return PlotPoint(
        format=_title(row),
        name=_name(row),
        bits=row.bits,
        mean_kl=compared.figures.mean_kl,
        standard_error=compared.standard_errors.mean_kl,
        own=own,
    )


def _reaches(evidence: Evidence, switch: int) -> bool:
    """Say whether a file has read a text nearly up to a switch, and one that passes it."""
    near = any(s.side == "short" and s.last > switch / 2 for s in evidence.stretches)
    return near and any(s.side == "long" for s in evidence.stretches)


def _one_of_each_format(
    own: Sequence[ProvenBuild], others: Sequence[ProvenBuild], release: Release
) -> list[figures.CardRow]:
    found: dict[str, figures.CardRow] = {}
    for builds in (own, others):
        nearest: dict[str, figures.CardRow] = {}
        for row in figures.rows(builds, release):
            name = row.build.variant.format
            if name not in nearest or _unusual(row) < _unusual(nearest[name]):
                nearest[name] = row
        found = nearest | found
    return [found[name] for name in format_folders.looks() if name in found]


def _unusual(row: figures.CardRow) -> float:
    return abs((row.bits or row.build.variant.bits_per_weight) - _USUAL_BITS)


def _curves(row: figures.CardRow) -> list[PlotCurve]:
    settings = ("", *dict.fromkeys(b.setting for b in row.evidence.known_behaviours if b.setting))
    return [
        PlotCurve(
            format=_title(row),
            name=_name(row),
            setting=one_line(setting),
            stretches=tuple(s for s in row.evidence.stretches if s.setting == setting),
        )
        for setting in settings
        if any(s.setting == setting for s in row.evidence.stretches)
    ]


def _title(row: figures.CardRow) -> str:
    return all_formats()[row.build.variant.format].title


def _name(row: figures.CardRow) -> str:
    return one_line(row.build.variant.short_name)
