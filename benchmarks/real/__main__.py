"""Measure what builds of real sizes take, by the tools themselves and by phi-bot: ``make bench``.

Every measurement is kept in the working folder as it comes: what is stopped goes on from there. It takes Linux.
"""

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.checkpoints import SHAPES, make
from benchmarks.real.results import Cell, Results, Way
from benchmarks.real.table import text
from benchmarks.real.ways import measure
from bot import catalogue
from bot.building.sample import make_sample
from bot.progress import Silent
from bot.system import machine
from bot.toolchains.install import ensure

RESULTS = Path(__file__).parents[1] / "results" / "latest.json"
PAGE = Path(__file__).parents[1] / "real.md"
_JOBS = ("gguf/q4_k_m", "gguf/q4_k_m,gguf/q5_k_m,gguf/q6_k,gguf/q8_0", "onnx/cpu-int4", "openvino/int4", "mlx/4bit")
_FEWER = (4, 10)  # layers: where the model does not fit by hand, a straight line through these says what it would take
_SAID = ("mlx", "mlx-lm", "llama-cpp-python", "onnxruntime", "onnxruntime-genai", "openvino", "optimum-intel", "nncf")


def main() -> None:
    """Measure what is not measured yet, and write all of it."""
    options = _options()
    work: Path = options.work.absolute()
    (work / "results").mkdir(parents=True, exist_ok=True)
    for shape in options.shapes:
        for layers in options.layers or [SHAPES[shape].layers]:
            _shape(shape, layers, options, work)
    cells = tuple(_cells(work / "results"))
    formats = sorted({name.partition("/")[0] for cell in cells for name in cell.variants})
    results = Results(
        machine=_machine(work),
        taken=dt.datetime.now(dt.UTC).date().isoformat(),
        commit=_commit(),
        toolchains={n: {p: v for p, v in ensure(n, Silent()).versions.items() if p in _SAID} for n in formats},
        cells=cells,
    )
    out: Path = options.out
    out.write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
    if out == RESULTS:
        PAGE.write_text(text(results), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--layers", nargs="+", type=int, help="numbers of layers; by default, the model's own")
    parser.add_argument("--variants", nargs="+", default=_JOBS, help="what is made in one go, with commas between")
    parser.add_argument("--ways", nargs="+", choices=("raw", "phi-bot", "stock"), default=["raw", "phi-bot"])
    parser.add_argument("--repeat", type=int, default=1, help="rounds, in which the ways alternate")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder for checkpoints, files and results")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _shape(shape: str, layers: int, options: argparse.Namespace, work: Path) -> None:
    """Measure all cells of one checkpoint, and of smaller ones what did not fit. New checkpoints are removed again."""
    before = set(work.iterdir())
    for number, job, way in itertools.product(range(options.repeat), options.variants, options.ways):
        cell = _cell(shape, layers, job, way, number, work)
        if cell.taken is None and way == "raw" and layers > max(_FEWER):
            for fewer in _FEWER:
                _cell(shape, fewer, job, way, number, work)
    for folder in set(work.iterdir()) - before:
        if folder.name.startswith(shape):
            shutil.rmtree(folder)


def _cell(shape: str, layers: int, job: str, way: Way, number: int, work: Path) -> Cell:
    """Return one measurement: the one that is kept, or a new one."""
    name = shape if layers == SHAPES[shape].layers else f"{shape}-{layers}"
    kept = work / "results" / f"{name}-{job.replace('/', '-')}-{way}-{number}.json"
    if not kept.exists():
        _checkpoint(shape, layers, work / name, work)
        variants = [catalogue.all_variants()[v] for v in job.split(",")]
        cell = measure(shape, layers, variants, way, number, work / name, work / "cell")
        kept.write_text(json.dumps(cell.to_json()), encoding="utf-8")
        _say(cell)
    return Cell.from_json(json.loads(kept.read_text(encoding="utf-8")))


def _checkpoint(shape: str, layers: int, source: Path, work: Path) -> None:
    if source.exists():
        return
    family = SHAPES[shape].family
    sample = work / f"sample-{family}"
    if not sample.exists():
        make_sample(sample, Silent(), family=family)
    make(SHAPES[shape], sample, source, layers=layers)


def _say(cell: Cell) -> None:
    what = f"{cell.shape}, {cell.layers} layers, {', '.join(cell.variants)}, {cell.way}"
    if cell.taken is None:
        print(f"{what}: not run: {cell.why}", flush=True)
        return
    t = cell.taken
    print(f"{what}: {t.seconds:.1f} s, {t.cpu_seconds:.1f} CPU s, {t.resident / 1e9:.2f} GB resident", flush=True)


def _cells(folder: Path) -> Iterator[Cell]:
    found = (Cell.from_json(json.loads(p.read_text(encoding="utf-8"))) for p in folder.glob("*.json"))
    yield from sorted(found, key=lambda c: (*c.job, c.way, c.round))


def _machine(work: Path) -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((n.partition(":")[2].strip() for n in lines if n.startswith("model name")), platform.machine())
    memory, disk = machine.memory() / (1 << 30), shutil.disk_usage(work).total / 1e9
    kernel = f"{platform.system()} {platform.release()}"
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB of memory, {disk:.0f} GB of disk, {kernel}"


def _commit() -> str:
    said = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
