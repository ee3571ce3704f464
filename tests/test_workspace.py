"""The working folder: what has a name in it is whole."""

import hashlib
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bot.errors import BuildError, DiskTooSmallError, RecordError
from bot.progress import Silent
from bot.records.artifacts import BuildRecord, Variant
from bot.workspace import Workspace, hash_files, read_artifact, read_json, read_record, write_json


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path)


def start_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True
    )


def test_scratch_is_gone_after_its_block(workspace: Workspace) -> None:
    with workspace.scratch() as folder:
        (folder / "half-made").write_text("x")
    assert list((workspace.root / "scratch").iterdir()) == []


@pytest.mark.process
def test_scratch_of_a_killed_process_is_removed_by_the_next(workspace: Workspace) -> None:
    process = start_python(
        """
        import sys, time
        from pathlib import Path
        from bot.workspace import Workspace
        with Workspace(root=Path(sys.argv[1])).scratch() as folder:
            (folder / "half-made").write_text("x")
            print(folder, flush=True)
            time.sleep(60)
        """,
        str(workspace.root),
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (left / "half-made").exists()
    with workspace.scratch():
        assert not left.exists()


def test_scratch_of_a_living_process_is_left_alone(workspace: Workspace) -> None:
    with workspace.scratch() as first, workspace.scratch():
        assert first.exists()


@pytest.mark.process
def test_a_second_process_waits_and_says_so(workspace: Workspace) -> None:
    said: list[str] = []

    class Told(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    process = start_python(
        """
        import sys, time
        from pathlib import Path
        from bot.progress import Silent
        from bot.workspace import Workspace
        with Workspace(root=Path(sys.argv[1])).only_one("source-1", Silent()):
            print("in", flush=True)
            time.sleep(1)
        """,
        str(workspace.root),
    )
    assert process.stdout is not None
    process.stdout.readline()
    before = time.monotonic()
    with workspace.only_one("source-1", Told()):
        assert time.monotonic() - before > 0.3
    process.wait()
    assert said == ["Another phi-bot is at work on source-1; waiting for it …"]


def test_too_little_disk_is_said_before_anything_is_written(workspace: Workspace) -> None:
    with pytest.raises(DiskTooSmallError, match=r"Building it needs about 1000\.0 TB of disk and .* are free"):
        workspace.need_disk(10**15, "Building it")


def test_a_json_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "build.json"
    write_json(file, {"a": 1})
    write_json(file, {"a": 2})
    assert read_json(file) == {"a": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["build.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"build\.json is not JSON"),
        ("[]", r"build\.json is not a valid BuildRecord: \$ is a list, not an object"),
        ('{"build_key": 1}', r"build\.json is not a valid BuildRecord: \$\.build_key is 1, not a sha256 in hex"),
        ("{}", r"build\.json is not a valid BuildRecord: \$\.build_key is missing"),
    ],
)
def test_a_folder_that_is_not_an_artifact_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "build.json").write_text(text)
    with pytest.raises(RecordError, match=message):
        read_artifact(tmp_path)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cannot read .*build\.json: No such file"):
        read_record(tmp_path / "build.json", BuildRecord)


def test_files_are_named_with_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"abc")
    with Silent().task("hashing") as task:
        (entry,) = hash_files(tmp_path, task)
    assert (entry.path, entry.size, entry.sha256) == ("sub/a.bin", 3, hashlib.sha256(b"abc").hexdigest())


def test_a_file_hashed_as_it_was_written_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"abc")
    (tmp_path / "config.json").write_bytes(b"{}")
    with Silent().task("hashing") as task:
        config, model = hash_files(tmp_path, task, {"model.bin": "5ae1"})
    assert (config.sha256, config.size) == (hashlib.sha256(b"{}").hexdigest(), 2)
    assert (model.sha256, model.size) == ("5ae1", 3)


def test_a_link_among_the_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").symlink_to("/etc/passwd")
    with Silent().task("hashing") as task, pytest.raises(BuildError, match=r"model\.bin is not a regular file"):
        hash_files(tmp_path, task)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    variant = Variant(name="gguf/q8_0", precision="int8", bits_per_weight=8.5, summary="ü", options={"a": [1, None]})
    write_json(tmp_path / "v.json", variant.to_json())
    assert read_record(tmp_path / "v.json", Variant) == variant
