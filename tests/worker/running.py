"""Run a worker of a format on the sample, in its real toolchain, as the steps do."""

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from bot import catalogue, texts
from bot.building.streams import WeightStream
from bot.formats import recipes
from bot.formats.registry import all_formats, worker_module
from bot.hub.headers import TensorRange
from bot.progress import Silent
from bot.records.artifacts import Json, SourceFile, Variant
from bot.records.evidence import CHECKS, Distance
from bot.records.tasks import BuildTask, ImportanceTask, MomentsTask, SensitivitiesTask, Target, VerifyTask
from bot.source import read_header, sparse_files
from bot.toolchains import Toolchain
from bot.toolchains.enter import Supervision, child_environment, run_worker
from bot.toolchains.install import ensure
from bot.workspace import SOLVED
from tests.shared import make_once
from tests.warm import warm

MODEL = "Phi-sample"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build left: the folder of each variant by its name, built or not, and all events."""

    folders: dict[str, Path]
    events: list[Json] = field(default_factory=list)

    def take(self, event: Json) -> None:
        """Take an event of the worker. What a calibrated variant was rounded to is kept beside its folder."""
        self.events.append(event)
        if solved := event.get("solved"):
            solved_beside(self.folders[event["variant"]]).write_text(json.dumps(solved))

    @property
    def names(self) -> list[str]:
        """The variants that were reported as built, in that order."""
        return [e["variant"] for e in self.events if e["event"] == "built"]

    @property
    def failures(self) -> dict[str, str]:
        """What was said of each variant that failed alone."""
        return {e["variant"]: e["message"] for e in self.events if e["event"] == "failed"}

    @property
    def notes(self) -> list[str]:
        """The lines for the person."""
        return [e["message"] for e in self.events if e["event"] == "note"]

    @property
    def progress(self) -> list[Json]:
        """Every event that says how far it is."""
        return [e for e in self.events if e["event"] == "progress"]

    def files(self, name: str) -> dict[str, bytes]:
        """Every file of a variant."""
        return {p.name: p.read_bytes() for p in sorted(self.folders[name].iterdir())}


Measured = Callable[[Built, Variant], Json]  #: what verifying a variant of a build measures


def rows(format_name: str) -> list[Variant]:
    """The catalogue's variants of a format."""
    return [v for v in catalogue.all_variants().values() if v.format == format_name]


def prepare(folder: Path, variants: Sequence[Variant]) -> Built:
    """Make the empty folders that a build finds."""
    folders = {v.name: folder / v.short_name for v in variants}
    for out in (*folders.values(), folder / "scratch"):
        out.mkdir(parents=True)
    return Built(folders=folders)


def build(
    toolchain: Toolchain,
    source: Path,
    variants: Sequence[Variant],
    folder: Path,
    *,
    model: str = MODEL,
    threads: int = 2,
    log: Path,
    stock: bool = False,
    streamed: bool = False,
) -> Built:
    """Build variants under a new folder. Raises what ``run_worker`` raises."""
    built = prepare(folder, variants)
    run_build(toolchain, source, variants, built, model=model, threads=threads, log=log, stock=stock, streamed=streamed)
    return built


def build_once(
    factory: pytest.TempPathFactory, toolchain: Toolchain, source: Path, variants: Sequence[Variant], name: str
) -> Built:
    """Build variants once for all processes that test, under a name of their own: to be read only."""

    def make(folder: Path) -> None:
        built = build(toolchain, source, variants, folder / "job", log=folder / "log")
        folders = {name: str(path) for name, path in built.folders.items()}
        (folder / "built.json").write_text(json.dumps({"folders": folders, "events": built.events}))

    found = json.loads((make_once(factory, name, make) / "built.json").read_text())
    return Built(folders={name: Path(path) for name, path in found["folders"].items()}, events=found["events"])


def run_build(
    toolchain: Toolchain,
    source: Path,
    variants: Sequence[Variant],
    built: Built,
    *,
    model: str = MODEL,
    threads: int = 2,
    log: Path,
    stock: bool = False,
    streamed: bool = False,
) -> None:
    """Build variants into prepared folders; the events are in ``built`` even when it raises.

    What is killed goes on when it is run again. A source that is ``streamed`` comes tensor by tensor out of its files.
    """
    task = task_of(source, variants, built, model=model, threads=threads, stock=stock)
    if any(v.options.get("imatrix") for v in variants):
        task = replace(task, importance=importance_of(source))
    if not streamed:
        run_worker(
            warm(toolchain),
            worker_module(toolchain.name),
            "build",
            task,
            Supervision(log=log, on_event=built.take),
        )
        return
    folder = Path(task.scratch).parent
    with streaming(source, folder / "streamed") as stream, stream.reader() as reader:

        def on_event(event: dict[str, Json]) -> None:
            if not reader.take(event):
                built.take(event)

        task = replace(task, source=str(folder / "streamed"), streamed=True)
        run_worker(
            warm(toolchain),
            worker_module(toolchain.name),
            "build",
            task,
            Supervision(log=log, on_event=on_event, on_start=reader.begin),
        )


def task_of(
    source: Path, variants: Sequence[Variant], built: Built, *, model: str = MODEL, threads: int, stock: bool
) -> BuildTask:
    """The task of building variants into prepared folders."""
    folder = next(iter(built.folders.values())).parent
    partial = folder / "partial"
    targets = tuple(
        Target(variant=v, out=str(built.folders[v.name]), partial=str(partial / v.short_name)) for v in variants
    )
    scratch = str(folder / "scratch")
    calibrated = any(v.is_calibrated for v in variants)
    return BuildTask(
        source=str(source),
        model_name=model,
        targets=targets,
        scratch=scratch,
        threads=threads,
        stock=stock,
        moments=moments_of(source) if calibrated else "",
        sensitivities=sensitivities_of(source) if any(map(recipes.chooses_types, variants)) else "",
    )


@contextmanager
def streaming(source: Path, folder: Path, ahead: int = 1 << 20) -> Iterator[WeightStream]:
    """Give a folder like ``source`` whose weights have holes, and come out of its files as from a Hub."""
    folder.mkdir()
    places: dict[str, TensorRange] = {}
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, folder / file.name)
            continue
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        listed = SourceFile(path=file.name, size=file.stat().st_size, digest="sha256:" + "0" * 64)
        sparse_files.make(folder / file.name, listed.size)
        with (folder / file.name).open("r+b") as out:
            out.write(file.read_bytes()[:header])
        for name, t in read_header(file).items():
            places[name] = TensorRange(file=listed, begin=header + t.begin, end=header + t.end)

    def read(place: TensorRange, take: Callable[[bytes], None]) -> None:
        with (source / place.file.path).open("rb") as whole:
            whole.seek(place.begin)
            take(whole.read(place.end - place.begin))

    with WeightStream(places, folder, read, ahead=ahead) as stream:
        yield stream


@cache
def importance_of(source: Path) -> str:
    """Measure the importance matrix of a model, once; return its file."""
    toolchain = ensure("gguf", Silent())
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    q8_0 = catalogue.all_variants()["gguf/q8_0"]
    built = build(toolchain, source, [q8_0], folder / "model", log=folder / "log")
    return str(measure_importance(toolchain, next(built.folders[q8_0.name].iterdir()), folder / "importance"))


@cache
def moments_of(source: Path) -> str:
    """Collect the second moments of a model on the beginning of the text, once; return their folder."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(collect_moments(source, folder)[0])


def with_own_types(row: Variant) -> Variant:
    """The calibrated recipe of a row, but for the types of its matrices: those are the tool's own."""
    found = recipes.with_calibration(row)
    return replace(found, options={k: v for k, v in found.options.items() if k != "types"})


def collect_moments(source: Path, folder: Path, *, threads: int = 2, characters: int = 4000) -> tuple[Path, Json]:
    """Collect the second moments of a model on so much of the text; return their folder, and what was told of it."""
    out, text = folder / "moments", folder / "text"
    out.mkdir(parents=True)
    text.write_text(recipes.text()[:characters])
    task = MomentsTask(source=str(source), text=str(text), out=str(out), threads=threads)
    supervision = Supervision(log=folder / "log", on_event=lambda _: None)
    return out, run_worker(warm(ensure("reference", Silent())), "bot.worker.collect", "collect", task, supervision)


@cache
def sensitivities_of(source: Path) -> str:
    """Find what rounding the matrices of a model costs, on the beginning of the text, once; return their folder."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(find_sensitivities(source, folder)[0])


def find_sensitivities(
    source: Path, folder: Path, *, threads: int = 2, characters: int = 4000, streamed: bool = False
) -> tuple[Path, Json]:
    """Find what rounding the matrices of a model costs; return their folder, and what was told of it."""
    out, scratch, text = folder / "sensitivities", folder / "states", folder / "text"
    for new in (out, scratch):
        new.mkdir(parents=True)
    text.write_text(recipes.text()[:characters])
    task = SensitivitiesTask(
        source=str(source), text=str(text), out=str(out), scratch=str(scratch), threads=threads, streamed=streamed
    )

    def run(given: SensitivitiesTask, supervision: Supervision) -> Json:
        return run_worker(warm(ensure("reference", Silent())), "bot.worker.backward", "weigh", given, supervision)

    if not streamed:
        return out, run(task, Supervision(log=folder / "log", on_event=lambda _: None))
    with streaming(source, folder / "streamed") as stream, stream.reader() as reader:

        def on_event(event: dict[str, Json]) -> None:
            reader.take(event)

        supervision = Supervision(log=folder / "log", on_event=on_event, on_start=reader.begin)
        return out, run(replace(task, source=str(folder / "streamed")), supervision)


def solved_beside(artifact: Path) -> Path:
    """Where what a calibrated variant of a build was rounded to is kept."""
    return artifact.with_name(f"{artifact.name}.{SOLVED}")


def measure_importance(toolchain: Toolchain, model: Path, out: Path, text: str | None = None) -> Path:
    """Measure the importance matrix of a GGUF file on a text into a new folder; return its file."""
    out.mkdir(parents=True)
    (out / "text.txt").write_text("\n\n".join(texts.training()) if text is None else text)
    task = ImportanceTask(
        variant=catalogue.all_variants()["gguf/q8_0"],
        model=str(model),
        text=str(out / "text.txt"),
        name="text.txt",
        out=str(out),
        threads=2,
    )
    run_worker(
        warm(toolchain),
        worker_module("gguf"),
        "importance",
        task,
        Supervision(log=out / "log", on_event=lambda _: None),
    )
    return out / "imatrix.gguf"


def measure(toolchain: Toolchain, artifact: Path, variant: Variant, source: Path, reference: Path, log: Path) -> Json:
    """Verify an artifact that was built from a source; return what the worker measured."""
    return _verified(toolchain, artifact, variant, source, reference, log)


def wrong_weights(toolchain: Toolchain, artifact: Path, variant: Variant, source: Path, folder: Path) -> str:
    """Compare the weights of an artifact with its source's; return what is wrong with them, or "".

    No reference is needed for that, but for what the output matrix is called.
    """
    folder.mkdir()
    tied = json.loads((source / "config.json").read_text()).get("tie_word_embeddings", False)
    head = {"weight": "model.embed_tokens.weight" if tied else "lm_head.weight"}
    (folder / "reference.json").write_text(json.dumps({"head": head}))
    measured = _verified(toolchain, artifact, variant, source, folder, folder / "log", part="weights")
    assert [c["name"] for c in measured["checks"]] == ["weights"]
    return failures(measured).get("weights", "")


def _verified(
    toolchain: Toolchain,
    artifact: Path,
    variant: Variant,
    source: Path,
    reference: Path,
    log: Path,
    part: Literal["all", "weights"] = "all",
) -> Json:
    config = json.loads((source / "config.json").read_text())
    task = VerifyTask(
        artifact=str(artifact),
        variant=variant,
        source=str(source),
        reference=str(reference),
        threads=2,
        read_differently=tuple(all_formats()[variant.format].read_differently(config)),
        solved=str(solved_beside(artifact)) if solved_beside(artifact).exists() else "",
        part=part,
    )
    return run_worker(
        warm(toolchain), worker_module(toolchain.name), "verify", task, Supervision(log=log, on_event=lambda _: None)
    )


def keep_few_windows(reference: Path, folder: Path) -> Path:
    """Fill a folder with a reference that has the first window of each side alone, and return it."""
    content = json.loads((reference / "reference.json").read_text())
    of_side = {w["side"]: w for w in reversed(content["windows"])}
    content["windows"] = list(of_side.values())[::-1]
    folder.mkdir(exist_ok=True)
    (folder / "reference.json").write_text(json.dumps(content))
    for window in content["windows"]:
        (folder / window["file"]).symlink_to(reference / window["file"])
    return folder


def distances(measured: Json, setting: str = "") -> dict[str, Distance]:
    """The distances measured with a setting of the runtime, by their side; without one, with what is recommended."""
    found = [Distance.from_json(d) for d in measured["distances"]]
    return {d.side: d for d in found if d.setting == setting}


def failures(measured: Json) -> dict[str, str]:
    """What was said of each check that failed, by its name."""
    return {c["name"]: c["detail"] for c in measured["checks"] if not c["passed"]}


def assert_proven(measured: Json, bound: float) -> None:
    """All checks were made and passed, and both sides of the LongRoPE switch are nearer than ``bound`` nats."""
    assert failures(measured) == {}
    assert [c["name"] for c in measured["checks"]] == list(CHECKS)
    found = distances(measured)
    assert set(found) == {"short", "long"}
    for distance in found.values():
        assert 0 <= distance.figures.mean_kl + 1e-7 < bound


def run_python(toolchain: Toolchain, code: str, *args: object) -> str:
    """Run code inside a toolchain, in the environment of a worker; return what it printed."""
    command = [str(warm(toolchain).python), "-I", "-c", code, *map(str, args)]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(home))
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_built_as(view: Path, reference: Path, variant: str, folder: Path) -> None:
    """A variant built of a view, the fast way, passes every check against a reference, and is near it at the end."""
    row = catalogue.all_variants()[variant]
    toolchain, log = ensure(row.format, Silent()), folder / "log"
    built = build(toolchain, view, [row], folder / "job", log=log)
    assert [n for n in built.notes if n.startswith("Stock path")] == []
    measured = measure(toolchain, built.folders[variant], row, view, reference, log)
    assert failures(measured) == {}
    assert list(distances(measured).values())[-1].figures.mean_kl < 0.05


def copy_of(sample: Path, folder: Path) -> Path:
    """A copy of the sample, to be damaged."""
    return Path(shutil.copytree(sample, folder))


def damage_last_shard(source: Path) -> None:
    """Cut the end off the weights, as an interrupted copy does."""
    weights = source / "model.safetensors"
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size - 1000)


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """A file system of its own with so little room. Skips the test where none can be mounted."""
    folder.mkdir()
    if sys.platform != "linux":
        pytest.skip("mounts a tmpfs, which only Linux has")
    options = f"size={int(megabytes * 1e6)}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def room_left(disk: Path, size: int) -> None:
    """Have so many bytes left on a ``small_disk``, whatever is on it."""
    block = 4096
    if shutil.disk_usage(disk).used == 0:
        (disk / "one block").write_bytes(bytes(block))  # a size of 0 would mean no limit
    for _ in range(100):
        total = -(-(shutil.disk_usage(disk).used + size) // block) * block
        done = subprocess.run(["mount", "-o", f"remount,size={total}", str(disk)], capture_output=True, text=True)
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)  # somebody writes all the time
