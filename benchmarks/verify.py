"""What proving takes at real sizes: ``make bench-verify``, or with names of SHAPES, of those.

Makes checkpoints in the shapes of published models, builds the default set of each and verifies it, each file in
processes of its own, with phi-bot's own steps and policy. Of the largest shape, one file of each format is. The unit is
one pass of the reference over its windows, in float32. Writes results/verify.json and the table of README.md as it
goes; a shape that is measured again takes the place of what was said of it.
"""

import argparse
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import tables
from benchmarks.apart import Taken, apart
from benchmarks.checkpoints import SHAPES, make
from bot import catalogue
from bot.building import reference
from bot.building.release_at_hand import at_hand
from bot.building.sample import make_sample
from bot.cli.family_support import first_defaults
from bot.config import Config
from bot.context import Context
from bot.formats.registry import worker_module
from bot.hub import client
from bot.progress import Silent
from bot.records.artifacts import Artifact, Json, Record, Release, Report, Variant
from bot.records.evidence import Evidence
from bot.records.tasks import ReferenceTask, VerifyTask
from bot.steps.build import build_all
from bot.steps.plan import plan_releases
from bot.steps.verify import verify_all
from bot.steps.watch import Reader
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure
from bot.workspace import Workspace

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "verify.json"
PAGE = HERE / "README.md"
_LARGE = 10**10  # parameters: of a model with more, one file of each format is measured
_HEAD = ("Shape", "File", "GB", "Passes", "Verify: CPU s", "GB at most", "Beside the runtime's", "Refused by")


# Loads a file in its runtime, has it read one window of a reference, and prints the most memory that it had.
_ALONE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from bot.records.tasks import VerifyTask
from bot.worker.harness import peak_memory

task, window = (json.loads(text) for text in sys.argv[3:])
import_module(sys.argv[2]).load(VerifyTask.from_json(task)).logits(window["ids"], window["scored"])
print(peak_memory())
"""


@dataclass(frozen=True, kw_only=True)
class Row(Record):
    """What verifying a file took.

    ``runtime_memory`` is what its runtime alone has, loaded and reading the longest text that verifying it reads, in
    bytes.
    """

    variant: str
    size: int
    deep: bool
    mean_kl: float | None
    failed: dict[str, str]
    build: Taken
    verify: Taken
    runtime_memory: int


@dataclass(frozen=True, kw_only=True)
class Measured(Record):
    """A shape: ``passes`` is what verifying all of ``rows`` took, over one pass of the reference over its windows.

    ``pass_seconds`` is what that pass took, in seconds of processor; ``reference`` is all that the reference took.
    """

    shape: str
    layers: int
    parameters: int
    machine: str
    pass_seconds: float
    reference: Taken
    rows: tuple[Row, ...]
    passes: float


@dataclass(frozen=True, kw_only=True)
class Results(Record):
    """All shapes."""

    shapes: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """A model and the folder for what comes of it."""

    model: Path
    work: Path

    def context(self) -> Context:
        hub = client.connect("http://127.0.0.1:9", None)  # nothing of this asks a Hub
        return Context(config=Config(), workspace=Workspace(root=self.work), hub=hub, display=Silent())

    def release(self) -> Release:
        return Reader(hub=self.context().hub).named(str(self.model))


def main() -> None:
    """Measure the shapes that are named, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []], help="all of them by default")
    parser.add_argument("--layers", type=int, help="fewer than the model has: nothing is written")
    parser.add_argument("--work", type=Path, default=HERE.parent / ".bench")
    options = parser.parse_args()
    for name in options.shapes or SHAPES:
        measured = measure(name, options.layers or SHAPES[name].layers, options.work.absolute())
        print(f"{name}: {measured.passes:.2f} passes of {measured.pass_seconds:.0f} seconds", flush=True)
        if options.layers is None:
            known = Results.from_json(json.loads(RESULTS.read_text())).shapes if RESULTS.exists() else ()
            found = {m.shape: m for m in (*known, measured)}
            results = Results(shapes=tuple(found[shape] for shape in SHAPES if shape in found))
            RESULTS.write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
            write_page(results)


def measure(name: str, layers: int, work: Path) -> Measured:
    """Make a checkpoint of a shape, its reference and its files, and verify them. What is left of it is removed."""
    bench = _Bench(model=_checkpoint(name, layers, work), work=work / "verify")
    shutil.rmtree(bench.work, ignore_errors=True)
    said, taken = apart(_compute_reference, bench)
    print(f"reference: {said}, {taken}", flush=True)
    large = bench.release().parameters > _LARGE
    variants = first_defaults() if large else [v for v in catalogue.all_variants().values() if v.default]
    rows: list[Row] = []
    proven: list[Artifact] = []
    for variant in variants:
        row, artifact, machine = _row(bench, variant, proven)
        print(row, flush=True)
        rows.append(row)
        proven.append(artifact)
    shutil.rmtree(bench.work)
    spent = sum(row.verify.cpu_seconds for row in rows)
    return Measured(
        shape=name,
        layers=layers,
        parameters=bench.release().parameters,
        machine=machine or platform.machine(),
        pass_seconds=said["pass_seconds"],
        reference=taken,
        rows=tuple(rows),
        passes=round(spent / said["pass_seconds"], 2),
    )


def _row(bench: _Bench, variant: Variant, proven: Sequence[Artifact]) -> tuple[Row, Artifact, str]:
    """Build and verify a variant beside those that are proven; return what came of it, and the machine."""
    built, build = apart(_build, bench, variant)
    if not built.artifacts:
        raise SystemExit(f"{variant.name} was not built: {built.failures[0].message}")
    [artifact] = built.artifacts
    evidence, verify = apart(_verify, bench, (*proven, artifact))
    row = Row(
        variant=variant.name,
        size=artifact.build.size,
        deep=evidence.deep,
        mean_kl=evidence.compared.figures.mean_kl if evidence.compared else None,
        failed={c.name: c.detail for c in evidence.checks if not c.passed},
        build=build,
        verify=verify,
        runtime_memory=_of_runtime_alone(bench, artifact, deep=evidence.deep),
    )
    return row, replace(artifact, evidence=evidence), evidence.machine


def _checkpoint(name: str, layers: int, work: Path) -> Path:
    shape = SHAPES[name]
    folder = work / (name if layers == shape.layers else f"{name}-{layers}")
    sample = work / f"sample-{shape.family}"
    if not sample.exists():
        make_sample(sample, Silent(), family=shape.family)
    return folder if folder.exists() else make(shape, sample, folder, layers=layers)


def _compute_reference(bench: _Bench) -> Json:
    """Compute a reference as ``reference.reference`` does; return what the worker says of it."""
    release, context = bench.release(), bench.context()
    folder = context.workspace.reference(reference.digest(release))
    out = folder.with_name("partial")  # one that is killed leaves none that is taken for whole
    out.mkdir(parents=True)
    with at_hand(release, context, streamed=False) as given:
        request = ReferenceTask(source=str(given.folder), out=str(out), threads=context.threads)
        said: Json = given.run_worker(
            ensure("reference", context.display),
            "bot.worker.reference",
            "compute",
            request,
            log=context.workspace.log("reference"),
            on_event=lambda _: None,
        )
    out.rename(folder)
    return said


def _build(bench: _Bench, variant: Variant) -> Report:
    return build_all(plan_releases([bench.release()], [variant]).jobs, bench.context())


def _verify(bench: _Bench, artifacts: Sequence[Artifact]) -> Evidence:
    """Verify the last of some artifacts of which the others are proven."""
    verify_all(artifacts, bench.context())
    file = Path(artifacts[-1].folder) / "evidence.json"
    return Evidence.from_json(json.loads(file.read_text(encoding="utf-8")))


def _of_runtime_alone(bench: _Bench, artifact: Artifact, *, deep: bool) -> int:
    folder = bench.context().workspace.reference(reference.digest(bench.release()))
    windows = json.loads((folder / "reference.json").read_text(encoding="utf-8"))["windows"]
    window = max(windows, key=lambda w: w["scored"][-1]) if deep else windows[0]
    task = VerifyTask(
        artifact=str(Path(artifact.folder) / "files"),
        variant=artifact.build.variant,
        source=str(bench.model),
        reference=str(folder),
        threads=bench.context().threads,
        deep=deep,
    )
    form = artifact.build.variant.format
    given = HERE.parent, f"{worker_module(form)}.runtime", json.dumps(task.to_json()), json.dumps(window)
    command: list[str | Path] = [ensure(form, Silent()).python, "-I", "-c", _ALONE, *given]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(command, env=child_environment(home), stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def write_page(results: Results) -> None:
    """Write the table of a page."""
    lines = [
        f"| {' | '.join(_HEAD)} |",
        f"|{'|'.join('-' * (len(name) + 1) + ':' for name in _HEAD)}|",
        *(line for measured in results.shapes for line in _lines(measured)),
    ]
    tables.put(PAGE, "verify", lines)


def _lines(found: Measured) -> list[str]:
    unit, all_of = found.pass_seconds, found.reference
    size = f"{found.shape}, {found.parameters / 1e9:.1f} B"
    rows = [
        f"| {size} | `{row.variant}`{'' if row.deep else ', not deep'} | {row.size / 1e9:.1f} "
        f"| {row.verify.cpu_seconds / unit:.2f} | {row.verify.cpu_seconds:.0f} | {row.verify.peak_memory / 1e9:.1f} "
        f"| {(row.verify.peak_memory - row.runtime_memory) / 1e9:.1f} | {', '.join(row.failed)} |"
        for row in found.rows
    ]
    return [
        *rows,
        (
            f"| {size} | the reference | | {all_of.cpu_seconds / unit:.2f} | {all_of.cpu_seconds:.0f} "
            f"| {all_of.peak_memory / 1e9:.1f} | | |"
        ),
        f"| {size} | **all files** | | **{found.passes}** | | | | |",
    ]


if __name__ == "__main__":
    main()
