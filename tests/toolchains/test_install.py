"""Toolchains are installed once, whole or not at all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from bot import toolchains
from bot.errors import DiskFullError, DiskTooSmallError, ToolchainError
from bot.progress import Silent
from bot.toolchains import system
from bot.toolchains.install import ensure
from bot.toolchains.kept import cache_folder, installed, other_folders, remove, remove_others
from tests.toolchains.index import HEAD, Index, lock, serve, wheel

# What another process runs: the toolchain "tiny" of this test.
_ENSURE = """
import sys
from pathlib import Path
from rich.console import Console
from bot import toolchains
from bot.progress import Lines
from bot.toolchains.install import ensure
toolchains.FOLDER = Path(sys.argv[1])
print(ensure("tiny", Lines(Console(stderr=True))).python)
"""


def start(lock_file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _ENSURE, str(lock_file.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of all processes that name a folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line]


def left(folder: Path) -> list[str]:
    """Return what is in the cache but for locks and logs, which may stay."""
    return [p.name for p in folder.iterdir() if p.suffix not in (".lock", ".log")] if folder.exists() else []


@pytest.mark.toolchain  # a real installation takes seconds
def test_a_toolchain_is_installed_on_first_use_and_found_ever_after(
    tiny: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed() == []
    made = ensure("tiny", Silent())
    assert made.versions == {"first": "1.0", "second": "1.0"}
    assert made.lock_digest == toolchains.lock_digest("tiny")
    code = "import first, second; print(first.version, second.version)"
    ran = subprocess.run([made.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "1.0 1.0\n"
    (found,) = installed()
    assert found.name == "tiny"
    assert found.size > 100_000
    assert made.python.is_relative_to(found.folder)


def mark_as_installed() -> Path:
    """Lay out ``tiny`` as an installation leaves it, but for its packages; return its Python."""
    slot = cache_folder() / f"tiny-{toolchains.lock_digest('tiny')[:16]}-{system.python_tag()}-{system.name()}"
    python = slot / "env-1" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    mark = {"environment": "env-1", "versions": {"first": "1.0"}, "size": 1, "seconds": 2.5}
    (slot / "complete.json").write_text(json.dumps(mark))
    return python


def test_an_installed_toolchain_takes_neither_the_index_nor_a_process(
    tiny: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = mark_as_installed()
    monkeypatch.setattr(subprocess, "Popen", None)
    found = ensure("tiny", Silent())
    assert (found.python, found.versions) == (python, {"first": "1.0"})
    assert index.asked == []
    assert min(_seconds_of_ensure() for _ in range(5)) < 0.05


def _seconds_of_ensure() -> float:
    started = time.perf_counter()
    ensure("tiny", Silent())
    return time.perf_counter() - started


@pytest.mark.toolchain  # a real installation takes seconds
def test_a_file_that_is_not_the_locked_one_is_refused(tiny: Path, index: Index) -> None:
    wheel(index.folder, "second", padding=1)  # the same name and version, other bytes
    with pytest.raises(ToolchainError, match=r"second==1\.0 is not the file that is locked") as caught:
        ensure("tiny", Silent())
    log = Path(re.search(r"is in (.*)\.$", caught.value.hint)[1])  # type: ignore[index]
    assert "DO NOT MATCH THE HASHES" in log.read_text()
    assert left(cache_folder()) == []


@pytest.mark.toolchain  # a real installation takes seconds
def test_a_package_that_no_index_has_is_named(tiny: Path, index: Index) -> None:
    (index.folder / "second-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ToolchainError, match=r"No matching distribution found for second==1\.0"):
        ensure("tiny", Silent())
    assert left(cache_folder()) == []


@pytest.mark.toolchain  # a real installation takes seconds
def test_a_toolchain_that_does_not_import_does_not_count(tiny: Path, index: Index) -> None:
    tiny.write_text(lock(index.folder / "first-1.0-py3-none-any.whl", imports='"first", "third"'))
    with pytest.raises(ToolchainError, match="No module named 'third'"):
        ensure("tiny", Silent())
    assert left(cache_folder()) == []


@pytest.mark.toolchain  # a real installation takes seconds
def test_a_changed_lock_is_another_toolchain(tiny: Path, index: Index) -> None:
    before = ensure("tiny", Silent())
    tiny.write_text(lock(wheel(index.folder, "first", "2.0"), imports='"first"'))
    assert installed() == []
    assert [p for p in other_folders() if before.python.is_relative_to(p)]
    after = ensure("tiny", Silent())
    assert after.versions == {"first": "2.0"}
    assert before.python.exists()
    assert after.lock_digest != before.lock_digest

    old = before.python.parents[2]
    held = old.with_name(old.name.replace(before.lock_digest[:16], "0" * 16) + ".lock")
    with FileLock(held):  # another version of the bot is about to install
        assert [freed > 0 for freed in remove_others()] == [True]
        assert {file.name for file in cache_folder().glob("*.lock")} == {
            held.name,
            f"{after.python.parents[2].name}.lock",
        }
    assert not old.with_name(f"{old.name}.log").exists()
    assert (before.python.exists(), after.python.exists()) == (False, True)
    assert other_folders() == []

    assert remove("tiny") is True  # of every lock
    assert left(cache_folder()) == []
    assert remove("tiny") is False


def test_a_toolchain_whose_python_is_gone_counts_as_none(tiny: Path) -> None:
    python = mark_as_installed()
    assert [i.name for i in installed()] == ["tiny"]
    python.unlink()
    python.symlink_to("/nowhere/bin/python3")
    assert installed() == []


@pytest.mark.parametrize("damaged", ["", "null", "{", '{"environment": "env-1"}', "\x00"])
def test_a_damaged_mark_counts_as_none(tiny: Path, damaged: str) -> None:
    mark_as_installed()
    (mark,) = cache_folder().glob("*/complete.json")
    mark.write_text(damaged)
    assert installed() == []


@pytest.mark.toolchain  # a real installation takes seconds
def test_a_damaged_installation_is_made_again(tiny: Path) -> None:
    python = mark_as_installed()
    python.unlink()
    made = ensure("tiny", Silent())
    assert made.python.exists()
    assert not python.parent.parent.exists()


@pytest.mark.toolchain  # a real installation takes seconds
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is not for Windows")
def test_an_install_that_is_killed_leaves_nothing_that_counts_or_runs(tiny: Path, index: Index) -> None:
    index.held = "second-1.0-py3-none-any.whl"  # pip is now in the middle of it
    process = start(tiny)
    assert index.reached.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 30
    while running := processes_in(cache_folder()):
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
    assert installed() == []

    index.held = None
    made = ensure("tiny", Silent())
    (slot,) = left(cache_folder())
    assert sorted(p.name for p in (cache_folder() / slot).iterdir()) == [
        "complete.json",
        made.python.parent.parent.name,
    ]


@pytest.mark.toolchain  # a real installation takes seconds
def test_a_second_process_waits_for_the_first(tiny: Path, index: Index) -> None:
    index.held = "second-1.0-py3-none-any.whl"
    first = start(tiny)
    assert index.reached.wait(60)
    second = start(tiny)
    assert second.stderr is not None
    assert "Waiting for another process that is installing the toolchain tiny" in second.stderr.readline()
    index.go.set()
    found = {p.communicate()[0] for p in (first, second)}
    assert len(found) == 1
    assert Path(found.pop().strip()).exists()
    assert index.downloads == ["first-1.0-py3-none-any.whl", "second-1.0-py3-none-any.whl"]


@pytest.mark.toolchain  # a real installation takes seconds
def test_ctrl_c_ends_it_and_leaves_nothing(tiny: Path, index: Index) -> None:
    index.held = "second-1.0-py3-none-any.whl"
    process = start(tiny)
    assert index.reached.wait(60)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate()[1]
    assert processes_in(cache_folder()) == []
    assert left(cache_folder()) == []


def test_a_disk_that_is_too_small_is_said_before_anything_is_downloaded(tiny: Path, index: Index) -> None:
    tiny.write_text(tiny.read_text().replace("disk = 1\n", f"disk = {10**15}\n"))
    with pytest.raises(DiskTooSmallError, match=r"takes 1000\.0 TB of disk to install"):
        ensure("tiny", Silent())
    assert index.asked == []
    assert left(cache_folder()) == []


@pytest.mark.toolchain  # a real installation takes seconds
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting takes root on Linux"
)
def test_a_disk_that_fills_up_leaves_nothing(
    tiny: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        monkeypatch.setenv("PHI_BOT_CACHE", str(small))
        tiny.write_text(lock(wheel(index.folder, "large", padding=60_000_000)))
        with pytest.raises(DiskFullError, match="filled up while the toolchain tiny was being installed"):
            ensure("tiny", Silent())
        assert left(cache_folder()) == []
        assert shutil.disk_usage(small).free > 39_000_000
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_cache_that_may_not_be_written_to_is_said(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PHI_BOT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolchainError, match="toolchains cannot be kept in") as caught:
        ensure("tiny", Silent())
    assert "PHI_BOT_CACHE" in caught.value.hint


@pytest.mark.toolchain  # a real installation takes seconds
def test_only_torch_is_asked_for_at_the_index_of_its_cpu_builds(
    tiny: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    torch = wheel(elsewhere, "torch", "2.13.0+cpu")
    wheel(elsewhere, "first", "1.0", padding=1)  # somebody else's
    tiny.write_text(lock(index.folder / "first-1.0-py3-none-any.whl", torch, imports='"torch", "first"'))
    with serve(elsewhere) as cpu:
        monkeypatch.setenv("PHI_BOT_TORCH_INDEX", cpu.url)
        made = ensure("tiny", Silent())
        assert made.versions == {"first": "1.0", "torch": "2.13.0+cpu"}
        assert "/simple/torch/" in index.asked
        assert {path.strip("/").split("/")[1].split("-")[0] for path in cpu.asked} == {"torch"}


def test_a_lock_without_this_system_is_refused_before_anything_is_downloaded(tiny: Path, index: Index) -> None:
    pins = tiny.read_text().removeprefix(HEAD.format(disk=1, imports='"first", "second"'))
    head = '# /// toolchain\n# disk = 1\n# imports = []\n# [platforms]\n# plan9-mips = { pythons = ["3.11"] }\n# ///\n'
    tiny.write_text(head + pins)
    with pytest.raises(ToolchainError, match="it is locked for plan9-mips, and this is "):
        ensure("tiny", Silent())
    assert index.asked == []
