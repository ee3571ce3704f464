"""What goes of a working folder, and what stays: after any sequence of steps, kills, other processes and cleanings."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bot import catalogue, source
from bot.building.cleaning import STATES, Cleaned, CleaningRequest, clean, cleaning_request, mark_published
from bot.building.free_space import keep_within, make_room
from bot.building.release_at_hand import fetch, missing_bytes
from bot.cli import cli
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, KeepTable, WorkTable
from bot.context import Context
from bot.formats import recipes
from bot.hub import client
from bot.progress import Silent
from bot.records.artifacts import Artifact, Release
from bot.records.plans import Plan, PlannedVariant
from bot.system import occupancy, temporary
from bot.workspace import Workspace, read_artifact
from tests.contexts import context_of
from tests.source import models
from tests.steps import jobs, proven
from tests.worker.running import small_disk

DAY = 86400.0
NOBODY = client.connect("http://127.0.0.1:9", None)  # no request is made
EVERYTHING = CleaningRequest(days=0, unpublished=True)
NAMES = ("gguf/q4_k_m", "onnx/cpu-int4", "mlx/4bit")


def local(folder: Path, text: str) -> Release:
    """A model in a folder; its content depends on a text."""
    folder.mkdir()
    files = models.files()
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"made_for": text}).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return source.local_release(folder)


def keep_artifact(workspace: Workspace, of: Release, name: str, *, kl: float = 0.001) -> Artifact:
    """Leave in a working folder what building and verifying a variant leaves."""
    with workspace.scratch() as scratch:
        made = proven.artifact(scratch, of, name, kl=kl)
        folder = workspace.artifact(made.build.build_key, of)
        folder.parent.mkdir(parents=True, exist_ok=True)
        Path(made.folder).rename(folder)
    return read_artifact(folder)


def entry(workspace: Workspace, name: str, digit: str = "a", size: int = 100_000) -> Path:
    """Something with a name in a working folder."""
    path = workspace.root / name
    path = path if path.suffix == ".log" else path / (digit * 32)
    if path.suffix == ".log":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    else:
        (path / "inner").mkdir(parents=True)
        (path / "inner" / "file").write_bytes(bytes(size))
    return path


def age(path: Path, days: float) -> None:
    """Make something, and all in it, as old as if nothing had used it since."""
    then = time.time() - days * DAY
    for each in (*path.rglob("*"), path):
        if not each.is_symlink():
            os.utime(each, (then, then))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path / "work")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of our own, so that nobody else's is cleaned."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def states(cleaned: Cleaned) -> dict[str, str]:
    return {Path(found.path).name: found.state for found in cleaned.removed}


# ---- any sequence ------------------------------------------------------------------------------------------------


class House(RuleBasedStateMachine):
    """A working folder through anything that happens to one, with the clock of its entries set back by hand."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.workspace = Workspace(root=self.folder / "work")
        self.releases = [local(self.folder / f"phi-{n}", str(n)) for n in range(2)]
        self.used: dict[Path, float] = {}  # what is kept, and for how many days nothing has used it
        self.unpublished: set[Path] = set()
        self.partial: set[Path] = set()
        self.users: list[tuple[ExitStack, set[Path]]] = []
        self.workspace.root.mkdir()
        self.foreign = self.workspace.root / "sources" / "my thesis"
        self.foreign.mkdir(parents=True)
        (self.foreign / "text").write_text("It took years.")
        age(self.foreign, 4000)

    def teardown(self) -> None:
        for user, _ in self.users:
            user.close()
        self.stack.close()

    def uses(self, path: Path) -> None:
        self.used[path] = 0.0
        for _, owned in self.users:
            owned.add(path)  # it may be anybody's who was at work before

    @rule(which=st.integers(0, 1))
    def fetches(self, which: int) -> None:
        """Whatever was cleaned away, a release can be had."""
        folder = fetch(self.releases[which], context_of(workspace=self.workspace))
        source.check(folder)
        self.uses(folder)

    @rule(which=st.integers(0, 1), name=st.sampled_from(NAMES), kl=st.sampled_from([0.001, 9.0]))
    def builds(self, which: int, name: str, kl: float) -> None:
        of = self.releases[which]
        key = recipes.key_of(of.content_digest, catalogue.all_variants()[name])
        folder = self.workspace.artifact(key, of)
        if not self.workspace.has(folder):
            keep_artifact(self.workspace, of, name, kl=kl)
            if kl < 1:
                self.unpublished.add(folder)
        artifact = read_artifact(folder)
        assert all((folder / "files" / file.path).stat().st_size == file.size for file in artifact.build.files)
        self.uses(folder)

    @rule(data=st.data())
    def publishes(self, data: st.DataObject) -> None:
        waiting = sorted(self.unpublished)
        if waiting:
            folder = data.draw(st.sampled_from(waiting))
            artifact = read_artifact(folder)
            mark_published([artifact], {artifact.build.build_key: "me/x"})
            self.unpublished.discard(folder)
            self.uses(folder)

    @rule(
        name=st.sampled_from(["references", "importances", "pictures", "partial", "samples", "gguf-build-0123456789ab"])
    )
    def makes(self, name: str) -> None:
        if name.startswith("gguf"):
            path = self.workspace.root / "logs" / f"{name}.log"
        else:
            path = self.workspace.root / name / ("a" * (16 if name == "samples" else 32))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if not name.startswith("gguf") else path.write_text("said")
            if name == "partial":
                (path / "large.part").write_bytes(bytes(5000))
                self.partial.add(path)
        self.workspace.has(path)
        self.uses(path)

    @rule()
    def dies(self) -> None:
        """A process is killed: its folder in scratch/ stays, and its lock, which nobody holds."""
        (self.workspace.root / "scratch").mkdir(exist_ok=True)
        left = self.workspace.root / "scratch" / f"{random.getrandbits(128):032x}"
        left.mkdir()
        (left / "half-made").write_text("x")
        left.with_name(f"{left.name}.lock").touch()

    @rule()
    def begins(self) -> None:
        user = ExitStack()
        user.enter_context(self.workspace.at_work())
        self.users.append((user, set()))

    @rule()
    def ends(self) -> None:
        if self.users:
            self.users.pop(0)[0].close()

    @rule(days=st.floats(0.5, 30))
    def time_passes(self, days: float) -> None:
        """While nobody is at work: what a process uses is younger than it."""
        if not self.users:
            for path in self.used:
                self.used[path] += days
                age(path, self.used[path])

    @rule(days=st.sampled_from([0.0, 1.0, 14.0]), most=st.sampled_from([None, 0.0, 1e9]), asked=st.booleans())
    def cleans(self, days: float, most: float | None, asked: bool) -> None:
        wish = CleaningRequest(days=days, most=most, unpublished=asked)
        foretold = clean(self.workspace, wish, dry_run=True)
        assert all(path.exists() for path in self.used), "a dry run removed something"
        done = clean(self.workspace, wish, dry_run=False)
        assert {found.path for found in done.removed} == {found.path for found in foretold.removed}
        assert done.kept == foretold.kept
        mine = {path for _, owned in self.users for path in owned}
        for path, unused in list(self.used.items()):
            if path.exists():
                if not self.users and (asked or path not in self.unpublished):
                    assert unused <= days or path in self.partial, f"{path} stayed"
                continue
            assert path not in mine, "a process at work uses it"
            assert unused >= days or (most == 0.0 and path not in self.partial), "it is too young"
            assert asked or path not in self.unpublished, "it waits to be published"
            assert path not in self.partial or unused >= days, "it could have gone on"
            self.unpublished.discard(path)
            self.partial.discard(path)
            del self.used[path]
        scratch = self.workspace.root / "scratch"
        assert not scratch.exists() or list(scratch.iterdir()) == []

    @invariant()
    def what_is_a_persons_stays(self) -> None:
        assert (self.foreign / "text").read_text() == "It took years."


House.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestAnySequence = House.TestCase


# ---- one thing at a time -----------------------------------------------------------------------------------------


def test_each_state_has_its_own_limit(workspace: Workspace, tmp_path: Path) -> None:
    of = local(tmp_path / "phi", "")
    waiting = Path(keep_artifact(workspace, of, "gguf/q4_k_m").folder)
    failed = Path(keep_artifact(workspace, of, "mlx/4bit", kl=9.0).folder)
    published = keep_artifact(workspace, of, "onnx/cpu-int4")
    mark_published([published], {published.build.build_key: "me/x-onnx"})
    others = [entry(workspace, name) for name in ("references", "importances", "pictures", "partial")]
    others.append(entry(workspace, "logs/gguf-build-0123456789ab.log"))
    for path in (waiting, failed, Path(published.folder), *others):
        age(path, 15)
    young = entry(workspace, "references", "b")
    done = clean(workspace, cleaning_request(KeepTable()), dry_run=False)
    assert states(done) == {
        failed.name: "failed",
        Path(published.folder).name: "published",
        "a" * 32: "partial",
        "gguf-build-0123456789ab.log": "log",
    } | {path.name: "partial" for path in others[3:4]}
    assert sorted(found.state for found in done.removed) == [
        "failed",
        "log",
        "partial",
        "published",
        "reference",
        "reference",
        "reference",
    ]
    assert waiting.exists()
    assert young.exists()
    assert clean(workspace, CleaningRequest(days=10, unpublished=True), dry_run=False).removed[0].path == str(waiting)


def test_the_longest_unused_goes_first_where_it_is_too_much(workspace: Workspace) -> None:
    for number, digit in enumerate("abcd"):
        age(entry(workspace, "references", digit), number)
    age(entry(workspace, "partial"), 9)
    done = clean(workspace, CleaningRequest(days=30, most=350_000), dry_run=False)
    assert [Path(found.path).name[0] for found in done.removed] == ["d", "c"]
    assert 300_000 <= done.kept <= 350_000
    assert done.freed >= 200_000


def test_a_source_and_the_view_of_it_go_together_and_count_once(workspace: Workspace) -> None:
    kept, view = entry(workspace, "sources"), workspace.root / "staged" / ("a" * 32)
    view.mkdir(parents=True)
    (view / "file").hardlink_to(kept / "inner" / "file")
    for path in (kept, view):
        age(path, 20)
    workspace.has(view)  # a build that reads the view uses both
    assert clean(workspace, cleaning_request(KeepTable()), dry_run=False).removed == ()
    age(view, 20)
    (found,) = clean(workspace, cleaning_request(KeepTable()), dry_run=False).removed
    assert 100_000 <= found.size < 150_000
    assert not kept.exists()
    assert not view.exists()


def test_only_the_needed_room_is_made(workspace: Workspace) -> None:
    for number, digit in enumerate("abc"):
        age(entry(workspace, "references", digit, size=3_000_000), number)
    free = workspace.free()
    done = clean(workspace, CleaningRequest(days=30, need=free + 4_000_000), dry_run=True)
    assert [Path(found.path).name[0] for found in done.removed] in (["c", "b"], ["c"], ["c", "b", "a"])
    assert clean(workspace, CleaningRequest(days=30, need=0), dry_run=True).removed == ()


def test_what_is_published_goes_before_what_the_next_build_reads(workspace: Workspace, tmp_path: Path) -> None:
    age(entry(workspace, "references", size=3_000_000), 5)
    artifact = keep_artifact(workspace, local(tmp_path / "model", "one"), "gguf/q4_k_m")
    mark_published([artifact], {artifact.build.build_key: "me/x"})
    wanted = CleaningRequest(days=30, need=workspace.free() + 10_000_000)
    assert [found.state for found in clean(workspace, wanted, dry_run=True).removed] == ["published", "reference"]


def context(workspace: Workspace, **keep: float) -> tuple[Context, list[str]]:
    said: list[str] = []

    class Heard(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    config = Config(
        build=BuildTable(work=workspace.root),
        work=WorkTable(keep=KeepTable(**keep)),
        publish=PublishTable(namespace="me"),
    )
    return Context(config=config, workspace=workspace, hub=NOBODY, display=Heard()), said


def test_a_run_cleans_by_itself_and_knows_the_publications_of_others(workspace: Workspace, tmp_path: Path) -> None:
    of = local(tmp_path / "phi", "")
    here, there = (keep_artifact(workspace, of, name) for name in ("gguf/q4_k_m", "mlx/4bit"))
    for artifact in (here, there):
        age(Path(artifact.folder), 15)
    row = there.build.variant
    name = f"me/{of.name}-mlx-4bit"
    done = PlannedVariant(variant=row, build_key=there.build.build_key, repo_id=name, path_in_repo="")
    now, said = context(workspace)
    keep_within(now, Plan(jobs=(), done=(), failures=()))
    assert said == []
    keep_within(now, Plan(jobs=(), done=(done,), failures=()), [jobs.job(of, "mlx/4bit")])
    assert not Path(there.folder).exists()
    assert Path(here.folder).exists()
    (line,) = said
    assert line.startswith("Cleaned the working folder: 1 unused entry, ")


@pytest.mark.parametrize("enough", [True, False])
def test_a_reference_goes_only_where_that_makes_room_for_all_files_of_a_release(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    """Otherwise they are made in turns, and the first one may do with less."""
    of = local(tmp_path / "phi", "")
    published = keep_artifact(workspace, of, "gguf/q4_k_m")
    mark_published([published], {published.build.build_key: "me/phi-GGUF"})
    reference = entry(workspace, "references")
    job = jobs.job(of, "mlx/4bit")
    need = job.estimate.output + job.estimate.disk + missing_bytes(of, workspace)
    disk = shutil.disk_usage(tmp_path)
    free = need - 100_000 if enough else -1_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=free))
    make_room(context(workspace)[0], Plan(jobs=(), done=(), failures=()), [job])
    assert not Path(published.folder).exists()
    assert reference.exists() != enough


# ---- processes ---------------------------------------------------------------------------------------------------


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.process
def test_files_in_use_by_another_process_stay_until_it_is_dead(workspace: Workspace) -> None:
    used, other = entry(workspace, "references"), entry(workspace, "references", "b")
    for path in (used, other):
        age(path, 99)
    user = start(
        """
        import sys, time
        from pathlib import Path
        from bot.workspace import Workspace
        workspace = Workspace(root=Path(sys.argv[1]))
        with workspace.at_work():
            assert workspace.has(Path(sys.argv[2]))
            print("in", flush=True)
            time.sleep(60)
        """,
        workspace.root,
        used,
    )
    assert user.stdout is not None
    user.stdout.readline()
    clean(workspace, EVERYTHING, dry_run=False)
    assert (used.exists(), other.exists()) == (True, False)
    user.kill()
    user.wait()
    clean(workspace, EVERYTHING, dry_run=False)
    assert not used.exists()
    assert list((workspace.root / "locks" / "users").iterdir()) == []


AT_WORK = """
import random, sys, time
from pathlib import Path
from bot.progress import Silent
from bot.workspace import Workspace
workspace, me = Workspace(root=Path(sys.argv[1])), sys.argv[2]
kept = workspace.root / "references" / ("c" * 32)
kept.parent.mkdir(parents=True, exist_ok=True)
until = time.monotonic() + float(sys.argv[3])
rounds = 0
while time.monotonic() < until:
    with workspace.at_work(), workspace.scratch() as folder:
        (folder / "file").write_text(me)
        with workspace.only_one("it", Silent()):
            alone = workspace.root / "alone"
            alone.open("x").close()  # fails if another one is here
            if not workspace.has(kept):
                (folder / "kept").mkdir()
                (folder / "kept" / "file").write_text("whole")
                (folder / "kept").rename(kept)
            time.sleep(random.random() / 500)
            alone.unlink()
        assert (kept / "file").read_text() == "whole", "cleaned away in use"
        time.sleep(random.random() / 500)
        assert (kept / "file").read_text() == "whole", "cleaned away in use"
        assert (folder / "file").read_text() == me, "the scratch of a living process is gone"
    rounds += 1
print(rounds)
"""
CLEANING = """
import sys, time
from pathlib import Path
from bot.system import occupancy
from bot.building.cleaning import CleaningRequest, clean
from bot.workspace import Workspace
occupancy._MARGIN_SECONDS = 0.0
workspace, until, gone = Workspace(root=Path(sys.argv[1])), time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until:
    gone += len(clean(workspace, CleaningRequest(days=0, unpublished=True), dry_run=False).removed)
print(gone)
"""


@pytest.mark.process
def test_cleaning_disturbs_nobody_at_work(workspace: Workspace) -> None:
    """Locks come and go under those who wait for them, for three seconds."""
    workers = [start(AT_WORK, workspace.root, n, 3) for n in range(3)]
    cleaners = [start(CLEANING, workspace.root, 3) for _ in range(2)]
    done = [process.communicate(timeout=120)[0] for process in (*workers, *cleaners)]
    assert [process.returncode for process in (*workers, *cleaners)] == [0] * 5
    assert all(int(rounds) > 0 for rounds in done[:3])
    assert sum(map(int, done[3:])) > 0, "nothing was ever cleaned: the test proves nothing"


@pytest.mark.process
def test_a_kill_while_cleaning_leaves_nothing_half(workspace: Workspace) -> None:
    for round_ in range(4):
        whole = [entry(workspace, "references", digit, size=10) for digit in "abcdef"]
        for path in whole:
            for number in range(300):
                (path / f"{number}").touch()
        process = start(CLEANING, workspace.root, 60)
        until = time.monotonic() + 30
        while all(path.exists() for path in whole) and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(round_ * 0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert all(len(list(path.iterdir())) == 301 for path in whole if path.exists())
        clean(workspace, EVERYTHING, dry_run=False)
        assert list((workspace.root / "scratch").iterdir()) == []
        assert not any(path.exists() for path in whole)


@pytest.mark.process
def test_the_temporary_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(
    workspace: Workspace, temporary_folder: Path
) -> None:
    process = start(
        """
        import sys, tempfile, time
        from bot.system import temporary
        tempfile.tempdir = sys.argv[1]
        with temporary.folder("side-") as folder:
            (folder / "large").write_bytes(bytes(100_000))
            print(folder, flush=True)
            time.sleep(60)
        """,
        temporary_folder,
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    older, anybodys = temporary_folder / "phi-bot-abcd1234", temporary_folder / "phi-bot-work_001"
    for folder in (older, anybodys):
        folder.mkdir()
    (older / "task.json").touch()
    for folder in (left, older, anybodys):
        age(folder, 2)
    assert temporary.abandoned(temporary_folder) == [older]
    process.kill()
    process.wait()
    foretold = clean(workspace, CleaningRequest(days=14), dry_run=True)
    done = clean(workspace, CleaningRequest(days=14), dry_run=False)
    assert states(foretold) == states(done) == {older.name: "abandoned", left.name: "abandoned"}
    assert done.freed >= 100_000
    assert list(temporary_folder.iterdir()) == [anybodys]


def test_a_step_that_fails_leaves_no_lock(workspace: Workspace) -> None:
    with pytest.raises(RuntimeError), workspace.scratch():
        raise RuntimeError
    assert list((workspace.root / "scratch").iterdir()) == []


@pytest.mark.process
def test_a_read_only_artifact_is_there_all_the_same(workspace: Workspace, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "artifact").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert workspace.has(disk / "artifact")
        assert not workspace.has(disk / "nothing")


def test_locks_that_nobody_holds_go_and_the_gate_stays(workspace: Workspace) -> None:
    with workspace.only_one("source-1", Silent()):
        pass
    with workspace.only_one("source-2", Silent()):
        assert occupancy.spare_locks(workspace.root) == 1
        assert {p.name for p in (workspace.root / "locks").glob("*.lock")} == {"gate.lock", "source-2.lock"}


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def cleanable(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    age(entry(workspace, "references"), 20)
    age(entry(workspace, "partial"), 5)
    monkeypatch.chdir(tmp_path)
    yield workspace
    shutil.rmtree(workspace.root)


def phi_bot(workspace: Workspace, *arguments: str) -> str:
    done = CliRunner().invoke(cli, ["clean", "--work", str(workspace.root), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_lists_its_removals_and_makes_them(cleanable: Workspace) -> None:
    kept = cleanable.root / "references" / ("a" * 32)
    said = phi_bot(cleanable, "--dry-run")
    assert kept.exists()
    (line,) = [line for line in said.splitlines() if str(kept) in line]
    assert line.split()[2:4] == ["reference", "20"]
    assert "kB would be freed, " in said.splitlines()[-1]
    assert " are freed" in phi_bot(cleanable)
    assert not kept.exists()
    assert "0 B are freed" in phi_bot(cleanable)


def test_the_command_prints_json_and_takes_an_age_and_states(cleanable: Workspace) -> None:
    told = Cleaned.from_json(json.loads(phi_bot(cleanable, "--json", "--dry-run", "--older-than", "3")))
    assert {found.state for found in told.removed} == {"reference", "partial"}
    told = Cleaned.from_json(json.loads(phi_bot(cleanable, "--json", "--older-than", "3", "--only", "partial")))
    assert [found.state for found in told.removed] == ["partial"]
    assert told.freed == told.removed[0].size > 0
    assert set(STATES) >= {found.state for found in told.removed}


def test_a_working_folder_that_is_not_there_is_not_made(workspace: Workspace) -> None:
    assert phi_bot(workspace) == "0 B are freed, 0 B kept.\n"
    assert not workspace.root.exists()
