"""What each row of the catalogue makes of the real model: ``make bench-smollm2``, or with NAMES of variants, of those.

Builds and verifies SmolLM2-135M-Instruct in Phi-3's architecture (see ``phi-bot sample --family smollm2``), each row
in processes of its own, with phi-bot's own steps and policy. Writes results/smollm2.json and the table of README.md as
it goes; a row that is measured again takes the place of what was said of it.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import tables
from benchmarks.apart import Taken, apart
from bot import catalogue
from bot.building.reference import reference
from bot.building.release_at_hand import at_hand
from bot.building.sample import make_sample
from bot.catalogue.families import REAL
from bot.config import Config
from bot.context import Context
from bot.formats.needs import missing_to_prove
from bot.hub import client
from bot.progress import Silent
from bot.records.artifacts import Artifact, Record, Release, Report, Variant
from bot.records.evidence import Evidence, RoundingCost
from bot.steps.build import build_all
from bot.steps.plan import plan_releases
from bot.steps.verify import verify_all
from bot.steps.watch import Reader
from bot.workspace import Workspace

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "smollm2.json"
PAGE = HERE / "README.md"
_WORK = HERE.parent / ".bench" / "smollm2"
_HEAD = (
    "Variant",
    "MB",
    "Bits",
    "Mean KL",
    "Same top token (%)",
    "Of plain rounding",
    "Refused by",
    "Build: CPU s, GB",
    "Verify: CPU s, GB",
)


@dataclass(frozen=True, kw_only=True)
class Row(Record):
    """What came of a variant. KL is in nats per token; what could not be measured is None.

    ``rounding`` is the cost of rounding beside that of plain rounding. ``failed`` are the checks that it fails, each
    with what was said; without one, it would be published.
    """

    variant: str
    size: int
    bits_per_weight: float
    mean_kl: float | None
    error: float | None
    top1_agreement: float | None
    rounding: RoundingCost | None
    failed: dict[str, str]
    build: Taken
    verify: Taken


@dataclass(frozen=True, kw_only=True)
class Results(Record):
    """All rows, in the order of the catalogue and those of sizes last, and what computing their reference took."""

    machine: str
    reference: Taken
    rows: tuple[Row, ...]


def main(names: list[str]) -> None:
    """Measure rows of the catalogue that can be verified on this machine, all of them unless some are named."""
    rows = [v for v in catalogue.select(names or catalogue.all_variants()) if missing_to_prove(v) is None]
    if not (_WORK / "model").exists():
        make_sample(_WORK / "model", Silent(), family=REAL.name)
    known = Results.from_json(json.loads(RESULTS.read_text())) if RESULTS.exists() else None
    _, taken = apart(_compute_reference)
    if known is None or taken.cpu_seconds > 1:  # it was not there before
        known = Results(machine="", reference=taken, rows=known.rows if known else ())
    for variant in rows:
        row, machine = measure(variant)
        print(f"{row.variant}: {row.mean_kl} nats, {', '.join(row.failed) or 'passed'}", flush=True)
        found = {r.variant: r for r in (*known.rows, row)}
        order = [*catalogue.all_variants(), *(name for name in found if name not in catalogue.all_variants())]
        ordered = tuple(found[name] for name in order if name in found)
        known = Results(machine=machine or known.machine, reference=known.reference, rows=ordered)
        RESULTS.write_text(json.dumps(known.to_json(), indent=1) + "\n", encoding="utf-8")
        write_page(known)


def measure(variant: Variant) -> tuple[Row, str]:
    """Build and verify a variant; return what came of it, and the machine. Raises SystemExit where it is not built."""
    built, build = apart(_build, variant)
    if not built.artifacts:
        raise SystemExit(f"{variant.name} was not built: {built.failures[0].message}")
    evidence, verify = apart(_verify, built.artifacts[0])
    size = built.artifacts[0].build.size
    distance = next(iter(evidence.recommended), None)
    row = Row(
        variant=variant.name,
        size=size,
        bits_per_weight=round(8 * size / _release().parameters, 2),
        mean_kl=round(distance.figures.mean_kl, 7) if distance else None,
        error=round(distance.standard_errors.mean_kl, 7) if distance else None,
        top1_agreement=round(distance.figures.top1_agreement, 5) if distance else None,
        rounding=evidence.rounding,
        failed={c.name: c.detail for c in evidence.checks if not c.passed},
        build=build,
        verify=verify,
    )
    return row, evidence.machine


def _context() -> Context:
    hub = client.connect("http://127.0.0.1:9", None)  # nothing of this asks a Hub
    return Context(config=Config(), workspace=Workspace(root=_WORK / "work"), hub=hub, display=Silent())


def _release() -> Release:
    return Reader(hub=_context().hub).named(str(_WORK / "model"))


def _compute_reference() -> None:
    release, context = _release(), _context()
    with at_hand(release, context, streamed=False) as given:
        reference(release, given, context)


def _build(variant: Variant) -> Report:
    return build_all(plan_releases([_release()], [variant]).jobs, _context())


def _verify(artifact: Artifact) -> Evidence:
    file = Path(artifact.folder) / "evidence.json"
    file.unlink(missing_ok=True)
    verify_all([artifact], _context())
    return Evidence.from_json(json.loads(file.read_text(encoding="utf-8")))


def write_page(results: Results) -> None:
    """Write the table of a page."""
    lines = [
        f"Machine: {results.machine}; {_taken(results.reference)} for the reference.",
        "",
        f"| {' | '.join(_HEAD)} |",
        f"|{'|'.join('-' * (len(name) + 1) + ':' for name in _HEAD)}|",
        *map(_line, results.rows),
    ]
    tables.put(PAGE, "smollm2", lines)


def _line(row: Row) -> str:
    measured = "not measured |"
    if row.mean_kl is not None and row.top1_agreement is not None:
        measured = f"{row.mean_kl:.4f} ± {row.error:.4f} | {100 * row.top1_agreement:.1f}"
    return (
        f"| `{row.variant}` | {row.size / 1e6:.0f} | {row.bits_per_weight:.2f} | {measured} "
        f"| {_times(row.rounding)} | {', '.join(row.failed)} | {_pair(row.build)} | {_pair(row.verify)} |"
    )


def _times(found: RoundingCost | None) -> str:
    return "" if found is None or found.ratio is None else f"{found.ratio:.2f} ± {found.ratio_error:.2f}"


def _pair(taken: Taken) -> str:
    return f"{taken.cpu_seconds:.0f}, {taken.peak_memory / 1e9:.1f}"


def _taken(taken: Taken) -> str:
    return f"{taken.cpu_seconds:.0f} seconds of processor and {taken.peak_memory / 1e9:.1f} GB"


if __name__ == "__main__":
    main(sys.argv[1:])
