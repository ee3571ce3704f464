"""Make the files of a job in one of the ways, measure it, and leave nothing but the figures."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.real.outputs import digests
from benchmarks.real.results import Cell, Way
from benchmarks.real.watched import Taken, allocated, run
from bot.building.release_at_hand import fetch
from bot.hub.client import connect
from bot.progress import Silent
from bot.records.artifacts import Report, Variant
from bot.steps.plan import plan_releases
from bot.steps.watch import Reader
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.formats.hooks import hooks

_OWN = 500 * 10**6  # bytes that any of the tools takes before it has read a weight


def measure(
    shape: str, layers: int, variants: Sequence[Variant], way: Way, number: int, source: Path, folder: Path
) -> Cell:
    """Run one way of making variants of one format out of a checkpoint, in a folder that is removed afterwards."""
    cell = Cell(
        shape=shape,
        layers=layers,
        variants=tuple(v.name for v in variants),
        way=way,
        round=number,
        taken=None,
        output=0,
        files={},
        load=round(os.getloadavg()[0], 1),
    )
    parameters = sum(p.stat().st_size for p in source.glob("model*.safetensors")) / 2
    needed, free = max(_needed(v, parameters) for v in variants), _available_memory()
    if way != "phi-bot" and needed > free:
        return replace(cell, why=f"takes {needed / 1e9:.0f} GB of memory, of which {free / 1e9:.0f} are free")
    needed, free = _disk_needed(variants, way, parameters), shutil.disk_usage(source).free
    if needed > free:
        return replace(cell, why=f"takes {needed / 1e9:.0f} GB of disk, of which {free / 1e9:.0f} are free")
    ensure(variants[0].format, Silent())
    try:
        return (_by_hand if way == "raw" else _by_phi_bot)(cell, variants, source, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _by_hand(cell: Cell, variants: Sequence[Variant], source: Path, folder: Path) -> Cell:
    """Run the tools for one variant after the other."""
    steps: list[Taken] = []
    files, output = {}, 0
    for variant in variants:
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        toolchain = ensure(variant.format, Silent())
        taken: list[Taken] = []
        for command in hooks(variant.format).by_hand.commands(variant, toolchain, source, folder):
            environment = child_environment(str(folder / "home")) | {"TMPDIR": str(folder / "tmp")}
            environment["PATH"] = f"{toolchain.python.parent}:{environment['PATH']}"
            log = folder.with_suffix(".log")
            if not taken:
                _forget(source)
            taken.append(run(command, folder=folder, log=log, environment=environment))
            if code := taken[-1].code:
                return replace(cell, why=f"{variant.name} ended with {code}: {_last_line(log)}")
        made = allocated(folder / "out")
        steps += [replace(t, disk=max(t.disk - made, 0)) for t in taken]
        files[variant.name] = digests(folder / "out")
        output += _size(folder / "out")
        shutil.rmtree(folder / "out")
    return replace(cell, taken=_together(steps), output=output, files=files)


def _by_phi_bot(cell: Cell, variants: Sequence[Variant], source: Path, folder: Path) -> Cell:
    """Run ``phi-bot build`` on a plan. The release is at hand, and its hashes are known: that is downloading's part."""
    (folder / "tmp").mkdir(parents=True)
    workspace, hub = Workspace(root=folder / "work"), connect("http://127.0.0.1:9", None)  # nothing of this asks a Hub
    plan = plan_releases([Reader(hub=hub).named(str(source))], variants)
    for job in plan.jobs:
        fetch(job.release, context_of(hub=hub, workspace=workspace))
    (folder / "plan.json").write_text(json.dumps(plan.to_json()), encoding="utf-8")
    _forget(source)
    command = [sys.executable, "-m", "bot.cli", "build", str(folder / "plan.json"), "--work", str(workspace.root)]
    command += ["--json", "--quiet", *(["--stock"] if cell.way == "stock" else [])]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(Path(__file__).parents[2])}
    log = folder.with_suffix(".log")
    taken = run(command, folder=folder, log=log, environment=environment)
    if taken.code:
        return replace(cell, why=f"ended with {taken.code}: {_last_line(log)}")
    report = Report.from_json(json.loads(log.read_text(encoding="utf-8")))
    if report.failures:
        return replace(cell, why=report.failures[0].message)
    outs = {artifact.build.variant.name: Path(artifact.folder) / "files" for artifact in report.artifacts}
    return replace(
        cell,
        taken=replace(taken, disk=max(taken.disk - sum(map(allocated, outs.values())), 0)),
        output=sum(map(_size, outs.values())),
        files={name: digests(out) for name, out in outs.items()},
    )


def _needed(variant: Variant, parameters: float) -> float:
    """Return the memory that making a variant by hand takes, in bytes."""
    measured = hooks(variant.format).by_hand.memory
    each = variant.bits_per_weight / 8 + 0.2 if measured is None else measured
    return each * parameters + _OWN


def _disk_needed(variants: Sequence[Variant], way: Way, parameters: float) -> float:
    """Return the bytes of disk beside the source: by hand, outputs come and go, and 16 bits may be in between."""
    outputs = [v.bits_per_weight / 8 * parameters for v in variants]
    if way == "phi-bot":
        return sum(outputs)
    return max(outputs) + hooks(variants[0].format).by_hand.between * parameters


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def _together(steps: Sequence[Taken]) -> Taken:
    """Return what steps that follow on each other take together."""

    def total(name: str) -> float:
        return float(sum(getattr(step, name) for step in steps))

    def most(name: str) -> int:
        return int(max(getattr(step, name) for step in steps))

    return Taken(
        code=0,
        seconds=round(total("seconds"), 2),
        cpu_seconds=round(total("cpu_seconds"), 2),
        resident=most("resident"),
        anonymous=most("anonymous"),
        disk=most("disk"),
        read=int(total("read")),
        written=int(total("written")),
        from_disk=int(total("from_disk")),
        to_disk=int(total("to_disk")),
    )


def _forget(source: Path) -> None:
    """Let the system's cache forget the weights, so that every way has to read them from the disk."""
    for file in source.glob("*.safetensors"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _last_line(log: Path) -> str:
    lines = log.with_suffix(".err").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "without a word"
