"""Measure what building, verifying and references take, on checkpoints of several sizes: ``make measurements``.

Writes measurements.json beside it, the models that are fitted to that (estimates.json of the formats' folders, and
bot/machines/estimate_models.json), and docs/estimates.md.
Processor seconds and resident memory hardly depend on what else the machine does; elapsed seconds do, and are not
kept.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from benchmarks.checkpoints import SHAPES, Shape, make
from benchmarks.estimates import learn, report
from benchmarks.estimates.measured import FILE, Measured, Measurements, measurements
from bot import catalogue, source
from bot.building.sample import make_sample
from bot.cli.family_support import first_defaults
from bot.formats.registry import all_formats, worker_module
from bot.progress import Silent
from bot.records.artifacts import Json, Record
from bot.records.tasks import BuildTask, ReferenceTask, Target, VerifyTask
from bot.source import sparse_files
from bot.source.shape import local_shape
from bot.system import machine
from bot.toolchains.enter import Supervision, run_worker
from bot.toolchains.install import ensure

T = TypeVar("T")

_HEAD = 64  # the samples' too, so that their rotary factors fit


def _narrow(like: str, hidden: int, layers: int) -> Shape:
    """Return the shape of a smaller model with a published one's vocabulary."""
    heads = hidden // _HEAD
    return replace(
        SHAPES[like],
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_value_heads=heads,
        intermediate=4 * hidden,
        config={},  # positions as the sample has them
    )


SIZES = (
    _narrow("phi-3.5-mini", 256, 4),
    _narrow("phi-3.5-mini", 512, 8),
    _narrow("phi-4-mini", 512, 8),
    _narrow("phi-3.5-mini", 1024, 8),
    _narrow("phi-4-mini", 1024, 8),
    _narrow("phi-3.5-mini", 1536, 13),
)
FIRST = tuple(v.name for v in first_defaults())  #: built of every size
OTHERS = ("gguf/q8_0", "gguf/bf16", "onnx/cpu-int8", "onnx/cpu-fp32", "openvino/int8", "openvino/fp16", "mlx/8bit")
_OF_OTHERS = SIZES[1:3]
_REFERENCES = (*SIZES[:4], SIZES[5])
_VERIFIED = dict.fromkeys(FIRST, SIZES[:4]) | {"mlx/4bit": SIZES[:3]}  # without a Mac, MLX takes its time
_THREADS = 2


def main() -> None:
    """Measure what is not measured yet in the working folder, and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".measurements"), help="folder for checkpoints and results")
    parser.add_argument("--only", choices=[*_COMMANDS], help="measure these anew, and keep what is known of the others")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    found = [measured for size in SIZES for measured in _size(size, work, options.only)]
    if options.only:
        found += [row for row in measurements().rows if row.what != options.only]
    kept = measurements().large if FILE.exists() else ()
    words = f"{_processor()}, {os.cpu_count()} cores, {machine.memory() / 1e9:.0f} GB, {platform.system()}"
    taken = dt.datetime.now(dt.UTC).date().isoformat()
    everything = Measurements(machine=words, taken=taken, rows=tuple(found), large=kept)
    FILE.write_text(json.dumps(everything.to_json(), indent=1) + "\n", encoding="utf-8")
    measurements.cache_clear()
    learn.write()
    report.write()


def _size(size: Shape, work: Path, only: str | None) -> Iterator[Measured]:
    """Measure all runs of one size. Each result is kept as a file, so that a killed sweep goes on where it was."""
    title = f"{size.family}-{size.hidden}x{size.layers}"
    results = work / "results" / title
    results.mkdir(parents=True, exist_ok=True)

    def once(name: str, run: Callable[[], Measured]) -> Measured:
        kept = results / f"{name.replace('/', '-')}.json"
        if not kept.exists():
            measured = run()
            kept.write_text(json.dumps(measured.to_json()), encoding="utf-8")
            print(title, name, measured.to_json(), flush=True)
        return Measured.from_json(json.loads(kept.read_text(encoding="utf-8")))

    names = [*FIRST, *(OTHERS if size in _OF_OTHERS else ())]
    wanted = [f"build-{n}" for n in names] + [f"verify-{n}" for n in FIRST if size in _VERIFIED[n]]
    wanted += ["reference"] if size in _REFERENCES else []
    wanted = [name for name in wanted if only is None or name.split("-")[0] == only]
    if all((results / f"{n.replace('/', '-')}.json").exists() for n in wanted):
        yield from (once(n, _never) for n in wanted)
        return
    with tempfile.TemporaryDirectory(dir=work) as folder:
        here = Path(folder)
        staged = _staged(size, here, work)
        if "reference" in wanted:
            yield once("reference", partial(_reference, staged, here))
        for name in names:
            built = here / name.replace("/", "-")
            if f"build-{name}" in wanted:
                yield once(f"build-{name}", partial(_build, name, staged, built))
            if f"verify-{name}" in wanted:
                yield once(f"verify-{name}", partial(_verify, name, staged, built, here))
            shutil.rmtree(built, ignore_errors=True)


def _never() -> Measured:
    raise AssertionError("its result is there")


def _staged(size: Shape, here: Path, work: Path) -> Path:
    sample = work / "samples" / size.family
    if not sample.exists():
        make_sample(sample, Silent(), family=size.family)
    folder = make(size, sample, here / "source")
    source.check(folder)
    source.stage(folder, here / "staged")
    return here / "staged"


def _build(name: str, staged: Path, built: Path) -> Measured:
    variant = catalogue.all_variants()[name]
    out, scratch = built / "files", built / "scratch"
    for folder in (out, scratch):
        folder.mkdir(parents=True)
    task = BuildTask(
        source=str(staged),
        model_name="Phi",
        targets=(Target(variant=variant, out=str(out), partial=str(built / "partial")),),
        scratch=str(scratch),
        threads=_THREADS,
    )
    measured, events = _run("build", variant.format, task, staged, built, scratch)
    if failed := [e["message"] for e in events if e["event"] == "failed"]:
        raise RuntimeError(f"{name}: {failed[0]}")
    return replace(measured, variant=name, output=_bytes(out))


def _verify(name: str, staged: Path, built: Path, here: Path) -> Measured:
    variant = catalogue.all_variants()[name]
    if not built.exists():
        _build(name, staged, built)
    if not (here / "reference").exists():
        _reference(staged, here)
    task = VerifyTask(
        artifact=str(built / "files"),
        variant=variant,
        source=str(staged),
        reference=str(here / "reference"),
        threads=_THREADS,
    )
    measured, _ = _run("verify", variant.format, task, staged, built, built / "verifying")
    return replace(measured, variant=name, disk=None)


def _reference(staged: Path, here: Path) -> Measured:
    out = here / "reference"
    out.mkdir(exist_ok=True)
    task = ReferenceTask(source=str(staged), out=str(out), threads=_THREADS)
    measured, _ = _run("reference", "reference", task, staged, here, here / "scratch")
    return replace(measured, output=_bytes(out), disk=None)


_COMMANDS = {"build": "build", "verify": "verify", "reference": "compute"}


def _run(
    what: str, toolchain: str, task: Record, staged: Path, folder: Path, scratch: Path
) -> tuple[Measured, list[Json]]:
    """Run a worker in a process of its own, whose children's resources are those of the worker alone."""
    scratch.mkdir(exist_ok=True)
    ensure(toolchain, Silent())
    with _watched(scratch) as peaks, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        cpu_seconds, memory, events = pool.submit(
            _alone, toolchain, _COMMANDS[what], task, folder / "worker.log", scratch
        ).result()
    config = json.loads((staged / "config.json").read_text(encoding="utf-8"))
    return (
        Measured.from_json(
            {
                "what": what,
                "variant": "",
                "shape": local_shape(staged, config).to_json(),
                "disk": max(peaks),
                "memory": memory,
                "cpu_seconds": round(cpu_seconds, 2),
            }
        ),
        events,
    )


def _alone(toolchain: str, command: str, task: Record, log: Path, scratch: Path) -> tuple[float, int, list[Json]]:
    os.environ["TMPDIR"] = str(scratch)  # so that what a tool writes there is counted
    tempfile.tempdir = None
    events: list[Json] = []
    module = worker_module(toolchain) if toolchain in all_formats() else f"bot.worker.{toolchain}"
    run_worker(ensure(toolchain, Silent()), module, command, task, Supervision(log=log, on_event=events.append))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if platform.system() == "Darwin" else 1024
    return used.ru_utime + used.ru_stime, used.ru_maxrss * unit, [e for e in events if e["event"] != "progress"]


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[list[int]]:
    """Note the bytes under a folder ten times a second while the block runs."""
    sizes, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            sizes.append(_bytes(folder, taken=True))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()


def _bytes(folder: Path, *, taken: bool = False) -> int:
    """Return the bytes of all files below a folder, or what they take of the disk: some have holes."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it went while we looked
            if file.is_file() and not file.is_symlink():
                total += sparse_files.allocated_bytes(file) if taken else file.stat().st_size
    return total


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names: Sequence[str] = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else ()
    return next((n.partition(":")[2].strip() for n in names if n.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
