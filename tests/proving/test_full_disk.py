"""A disk that fills up under a step: each says so, where, and how much it needs; what was there before stays."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bot.building.release_at_hand
from bot import catalogue
from bot.errors import DiskFullError
from bot.hub import client
from bot.progress import Silent, Task
from bot.proving.build_job import build_job
from bot.records.artifacts import Artifact, Release
from bot.records.plans import Job
from bot.steps.plan import plan_releases
from bot.steps.watch import Reader
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.proving.alone import verify
from tests.worker.running import room_left, small_disk

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("warm_toolchains")]

NOBODY = client.connect("http://127.0.0.1:9", None)  # no request is made
VARIANTS = ("gguf/q8_0", "onnx/cpu-int4", "openvino/int4", "mlx/4bit")
ROOMY = 3_000  # megabytes, of which a sample takes a few


class Filling(Silent):
    """Does something once, at the first sign that a worker is at work."""

    def __init__(self, then: Callable[[], None], at: str) -> None:
        self.then: Callable[[], None] | None = then
        self.at = at

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        display = self

        class Once:
            def update(self, what: str, done: int, total: int, unit: str) -> None:
                if display.then is not None and display.at in title:
                    then, display.then = display.then, None
                    then()

        yield Once()


def job_of(sample: Path, variant: str) -> Job:
    release = Reader(hub=NOBODY).named(str(sample))
    (job,) = plan_releases([release], catalogue.select([variant])).jobs
    return job


def build_on(workspace: Workspace, job: Job, display: Silent, *, stock: bool = False) -> Artifact:
    report = build_job(job, context_of(workspace=workspace, display=display, threads=2), stock=stock)
    assert report.failures == ()
    return report.artifacts[0]


def assert_told(error: DiskFullError, *words: str) -> None:
    assert error.exit_code == 45
    assert all(word in error.message for word in words), error.message
    assert "\n" not in error.message
    assert "Free some disk" in error.hint


@pytest.mark.parametrize("left", [0, pytest.param(100_000, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stock", [False, pytest.param(True, marks=pytest.mark.sweep)])
def test_a_build_whose_disk_fills_up_and_then_has_room(
    sample: Path, tmp_path: Path, variant: str, left: int, stock: bool
) -> None:
    """Files, log and scratch are all on the disk that is full."""
    job = job_of(sample, variant)
    with small_disk(tmp_path / "disk", ROOMY) as disk:
        workspace = Workspace(root=disk / "work")
        filling = Filling(lambda: room_left(disk, left), "Building")
        with pytest.raises(DiskFullError) as raised:
            build_on(workspace, job, filling, stock=stock)
        assert filling.then is None
        assert_told(raised.value, str(disk), " needs about ")
        assert not list(workspace.root.glob("artifacts/*"))
        room_left(disk, 1_000_000_000)
        artifact = build_on(workspace, job, Silent(), stock=stock)
        assert Path(artifact.folder).is_dir()


def test_a_source_that_does_not_fit_while_it_is_fetched(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was room when the build began, and another program took it."""
    with small_disk(tmp_path / "disk", ROOMY) as disk:
        workspace = Workspace(root=disk / "work")
        job = job_of(sample, "gguf/q8_0")
        workspace.root.mkdir()
        found = bot.building.release_at_hand._local

        def take_the_room(release: Release) -> Path:
            room_left(disk, 0)
            return found(release)

        monkeypatch.setattr(bot.building.release_at_hand, "_local", take_the_room)
        with pytest.raises(DiskFullError) as raised:
            build_on(workspace, job, Silent())
        assert_told(raised.value, str(disk))


@pytest.mark.parametrize("where", ["work", "temporary"])
def test_verifying_where_there_is_no_room(
    sample: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a fault of the file: nothing is noted of it, and with room it passes."""
    with small_disk(tmp_path / "disk", ROOMY) as disk, small_disk(tmp_path / "tmp", 10) as temporary:
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        workspace = Workspace(root=disk / "work")
        artifact = build_on(workspace, job_of(sample, "gguf/q8_0"), Silent())

        def verified() -> Artifact:
            return verify(artifact, context_of(workspace=workspace, threads=2))

        full = disk if where == "work" else temporary
        room_left(full, 0)
        with pytest.raises(DiskFullError) as raised:
            verified()
        assert_told(raised.value, str(full))
        if where == "temporary":
            assert "TMPDIR" in raised.value.hint
        assert not (Path(artifact.folder) / "evidence.json").exists()
        room_left(full, 500_000_000)
        evidence = verified().evidence
        assert evidence is not None
        assert evidence.passed
