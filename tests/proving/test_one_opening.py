"""A release that streams is read three times at most: by all builds, for the reference, and by all verifications."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pytest

from bot import catalogue
from bot.building import release_at_hand
from bot.building.streams import WeightStream
from bot.config import Config
from bot.context import Context
from bot.errors import BuildError
from bot.hub import client
from bot.localhub import serve
from bot.progress import Silent
from bot.proving import verify_artifact
from bot.proving.prove import prove_all
from bot.records.artifacts import Artifact, Variant
from bot.records.plans import Job
from bot.steps.build import build_all
from bot.steps.plan import plan_releases
from bot.steps.verify import verify_all
from bot.steps.watch import Reader
from bot.workspace import Workspace
from tests.e2e.world import MODEL
from tests.worker.running import with_own_types

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("warm_toolchains")]

DEFAULT_ROWS = catalogue.select(["default"])
DEFAULT = [v.name for v in DEFAULT_ROWS]
CALIBRATED = [with_own_types(catalogue.all_variants()[name]) for name in ("mlx/4bit", "onnx/cpu-int4")]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the sample is proven as if the disk were too small for it."""

    context: Context
    jobs: tuple[Job, ...]
    streams: list[WeightStream]

    @property
    def weights(self) -> int:
        return self.jobs[0].release.weight_bytes

    @property
    def read(self) -> float:
        """How often the weights were read: what was fetched of them, as a part of all."""
        return sum(s.fetched for s in self.streams) / self.weights


@pytest.fixture
def place(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Place]]:
    """Make a place: a working folder of its own beside a Hub that has the sample. By itself for the default rows."""
    streams: list[WeightStream] = []

    class Counted(WeightStream):
        def __enter__(self) -> Self:
            streams.append(self)
            return super().__enter__()

    monkeypatch.setattr(release_at_hand, "WeightStream", Counted)
    monkeypatch.setattr(verify_artifact, "missing_bytes", lambda *_: 1 << 60)
    with serve(tmp_path / "hub") as running:
        hub = client.connect(running.url, running.token)
        with Silent().task("release") as task:
            files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
            hub.commit(MODEL, files=files, parent=None, message="Release", task=task)
        release = Reader(hub=hub).named(MODEL)

        def made(variants: Sequence[Variant] = DEFAULT_ROWS) -> Place:
            workspace = Workspace(root=tmp_path / "work")
            jobs = plan_releases([release], variants).jobs
            return Place(
                context=Context(config=Config(), workspace=workspace, hub=hub, display=Silent()),
                jobs=tuple(replace(job, source="streamed") for job in jobs),
                streams=streams,
            )

        yield made


def test_the_default_set_is_proven_in_three_reads_as_if_its_source_were_kept(
    place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = place()
    proven: list[Artifact] = []

    def interrupted(artifact: Artifact) -> None:
        proven.append(artifact)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove_all(here.jobs, here.context, interrupted)
    assert here.read <= 3.0
    assert proven[0].evidence is not None
    assert proven[0].evidence.deep
    resumed = prove_all(here.jobs, here.context, proven.append)
    assert resumed.failures == ()
    assert sorted(a.build.variant.name for a in resumed.artifacts) == sorted(DEFAULT)
    assert proven == [proven[0], *resumed.artifacts]
    assert here.read <= 4.0  # nothing was built again, the reference is known, and so is the evidence of the first
    deep = [a.build.variant.format for a in resumed.artifacts if a.evidence and a.evidence.deep]
    assert sorted(deep) == sorted({a.build.variant.format for a in resumed.artifacts})  # one of each, whoever read it
    assert not here.context.workspace.has(here.context.workspace.source(here.jobs[0].release))

    monkeypatch.undo()
    jobs = [replace(job, source="kept") for job in here.jobs if job.format in ("gguf", "mlx")]
    kept = prove_all(jobs, replace(here.context, workspace=Workspace(root=tmp_path / "other")))
    assert len(kept.artifacts) == 3
    streamed = {a.build.variant.name: a for a in resumed.artifacts}
    for one in kept.artifacts:
        other = streamed[one.build.variant.name]
        assert other.build.files == one.build.files
        assert other.build.build_key == one.build.build_key
        assert other.evidence is not None
        assert one.evidence is not None
        assert other.evidence.checks == one.evidence.checks
        assert other.evidence.distances == one.evidence.distances


def let_fail(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the workers of a module end as soon as they begin."""
    start = subprocess.Popen

    def failing(command: list[str], **rest: Any) -> Any:
        return start(["nothing" if module in str(part) else part for part in command], **rest)

    monkeypatch.setattr(subprocess, "Popen", failing)


def test_formats_that_are_calibrated_do_not_wait_for_each_other(place: Callable[..., Place]) -> None:
    """What their matrices are multiplied with is collected before both read what they build from."""
    here = place(CALIBRATED)
    built = build_all(here.jobs, here.context)
    assert built.failures == ()
    assert sorted(a.build.variant.name for a in built.artifacts) == [v.name for v in CALIBRATED]
    assert {a.build.calibration for a in built.artifacts} != {None}
    assert here.read <= 2.0


def test_each_format_says_for_itself_that_it_cannot_be_calibrated(
    place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place([*CALIBRATED, catalogue.all_variants()["onnx/cpu-int8"]])
    let_fail("bot.worker.collect", monkeypatch)
    built = build_all(here.jobs, here.context)
    assert sorted((f.variant, f.exit_code) for f in built.failures) == [
        (v.name, BuildError.exit_code) for v in CALIBRATED
    ]
    assert [a.build.variant.name for a in built.artifacts] == ["onnx/cpu-int8"]


def test_a_format_that_fails_holds_up_no_other(place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    here = place()
    let_fail("mlx.worker", monkeypatch)
    built = build_all(here.jobs, here.context)
    assert [(f.variant, f.exit_code) for f in built.failures] == [("mlx/4bit", BuildError.exit_code)]
    assert sorted(a.build.variant.name for a in built.artifacts) == sorted({*DEFAULT} - {"mlx/4bit"})
    assert here.read <= 1.0

    damaged = next(a for a in built.artifacts if a.build.variant.name == "onnx/cpu-int4")
    (Path(damaged.folder) / "files" / "model.onnx.data").write_bytes(b"nothing")
    report = verify_all(built.artifacts, here.context)
    assert [f.variant for f in report.failures] == ["onnx/cpu-int4"]
    assert "another size than when it was built" in report.failures[0].message
    assert len(report.artifacts) == len(built.artifacts) - 1
    assert here.read <= 3.0
