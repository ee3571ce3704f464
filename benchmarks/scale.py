"""The growth of a cycle's cost with the number of publications: ``python -m benchmarks.scale``.

Measures cycles over 100 to 10,000 publications, writes results/scale.json and the table in README.md. That takes ten
to twenty minutes. ``python -m benchmarks.scale --table`` writes the table again from the results that are there.
"""

import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.cycle import PAGES, Measured, configure, phi_bot
from benchmarks.namespace import Shape, changed_source, fill
from bot.localhub import RunningHub, ServerLimits, serve
from bot.records.artifacts import Record
from bot.records.plans import Plan
from bot.system import machine

RESULTS = Path(__file__).parent / "results" / "scale.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- scale: begin, written by make bench-scale -->", "<!-- scale: end -->"

LATENCY = 0.05  # seconds
SOURCES = (10, 32, 100, 316, 1000)
VARIANTS = (
    *("gguf/q4_k_m", "gguf/q8_0", "onnx/cpu-int4", "openvino/int4", "openvino/int8", "openvino/fp16"),
    *("mlx/3bit", "mlx/4bit", "mlx/6bit", "mlx/8bit", "mlx/fp16"),
)  # eleven, in ten repos a source
_ROUNDS = 3

Work = Literal["nothing", "one source changed"]


@dataclass(frozen=True, kw_only=True)
class Row(Record):
    """The cost of one cycle: requests, seconds (the median of three), peak of resident bytes."""

    sources: int
    publications: int
    page: int
    work: Work
    requests: int
    seconds: float
    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True, kw_only=True)
class Results(Record):
    """All of it, and the machine that both the bot and the Hub ran on.

    ``load`` is how many processes waited for its cores, on average over the last minute before it began.
    """

    machine: str
    load: float
    latency: float
    rows: tuple[Row, ...]


def main() -> None:
    """Measure, or only write the table."""
    if sys.argv[1:] != ["--table"]:
        busy = round(os.getloadavg()[0], 1)
        results = Results(machine=_machine(), load=busy, latency=LATENCY, rows=tuple(_measure()))
        RESULTS.write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8"), load()), encoding="utf-8")


def load() -> Results:
    """Return the results that are there."""
    return Results.from_json(json.loads(RESULTS.read_text(encoding="utf-8")))


def with_table(readme: str, results: Results) -> str:
    """Return the text of README.md with the table of these results in it."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


def table(results: Results) -> str:
    """Return the results as Markdown."""
    where = f"Machine: {results.machine}; {results.load} processes were at work on it before it began."
    lines = [
        f"{where} Latency: {results.latency * 1000:.0f} ms an answer.",
        "",
        "| publications | sources | entries a page | to do | requests | seconds | of a processor | MB at most |",
        "|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.publications:,} | {r.sources:,} | {r.page:,} | {r.work} | {r.requests} | {r.seconds:.1f} "
        f"| {r.cpu_seconds:.1f} | {r.peak_memory / 1e6:.0f} |"
        for r in sorted(results.rows, key=lambda r: (r.page, r.work, r.publications))
    ]
    lines += [
        "",
        "How each figure grows, as a power of the number of publications: over all sizes, and between the two largest.",
        "",
        "| entries a page | to do | requests | seconds | of a processor | MB at most |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for page, work in sorted({(r.page, r.work) for r in results.rows}):
        rows = sorted((r for r in results.rows if (r.page, r.work) == (page, work)), key=lambda r: r.publications)
        figures = zip(*((r.requests, r.seconds, r.cpu_seconds, r.peak_memory) for r in rows), strict=True)
        grown = (f"{exponent(rows, values):.2f}, {exponent(rows[-2:], values[-2:]):.2f}" for values in figures)
        lines.append(f"| {page:,} | {work} | {' | '.join(grown)} |")
    return "\n".join(lines)


def exponent(rows: Sequence[Row], values: Sequence[float]) -> float:
    """Return the slope of a straight line through the logarithms, by least squares."""
    points = [(math.log(r.publications), math.log(v)) for r, v in zip(rows, values, strict=True)]
    middle_x, middle_y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)


def _measure() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as temporary, serve(Path(temporary) / "hub") as hub:
        settings, already = configure(Path(temporary) / "settings", Shape(sources=0, variants=VARIANTS)), 0
        for sources in SOURCES:
            shape = Shape(sources=sources, variants=VARIANTS)
            print(f"{shape.publications} publications of {sources} sources", flush=True)
            fill(hub.hub, shape, already=already)
            already = sources
            phi_bot(hub, settings, "run")  # sees the new sources, and remembers them
            for page in PAGES:
                yield from _cycles(hub, settings, shape, ServerLimits(page=page, latency=LATENCY))


def _cycles(hub: RunningHub, settings: Path, shape: Shape, limits: ServerLimits) -> Iterable[Row]:
    idle = [phi_bot(hub, settings, "run", "--json", limits=limits) for _ in range(_ROUNDS)]
    yield _row(shape, limits.page, "nothing", idle)
    with changed_source(hub.hub) as changed:
        busy = [phi_bot(hub, settings, "plan", "--json", limits=limits) for _ in range(_ROUNDS)]
    planned = Plan.from_json(json.loads(busy[-1].output))
    found = {job.release.repo_id for job in planned.jobs}
    if found != {changed} or len(planned.done) != (shape.sources - 1) * len(VARIANTS):
        raise SystemExit(f"the plan is for {found or 'nothing'}, not for {changed} alone")
    phi_bot(hub, settings, "run")  # the old weights are back, in a new commit
    yield _row(shape, limits.page, "one source changed", busy)


def _row(shape: Shape, page: int, work: Work, runs: Sequence[Measured]) -> Row:
    row = Row(
        sources=shape.sources,
        publications=shape.publications,
        page=page,
        work=work,
        requests=max(m.requests.total() for m in runs),
        seconds=round(median(m.seconds for m in runs), 2),
        cpu_seconds=round(median(m.cpu_seconds for m in runs), 2),
        peak_memory=max(m.peak_memory for m in runs),
    )
    print(
        f"  pages of {page}, {work}: {row.requests} requests, {row.seconds} s, {row.peak_memory / 1e6:.0f} MB",
        flush=True,
    )
    return row


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores, {machine.memory() / (1 << 30):.0f} GiB of memory, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
