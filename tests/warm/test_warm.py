"""A warm toolchain: what runs in it cannot tell that it is a fork, and what has to be cold is."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import tests.warm
from bot.progress import Silent
from bot.toolchains import Toolchain, kept, names
from bot.toolchains.enter import child_environment
from bot.toolchains.install import ensure
from tests.warm import warm, warm_cache
from tests.worker.limits import data_limit

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(sys.platform != "linux", reason="only there are toolchains kept warm"),
]

PARENT = "import os; print(os.getppid())"


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return warm(ensure("plots", Silent()))


def run(
    toolchain: Toolchain, code: str, *args: str, scratch: Path, stdin: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [toolchain.python, "-I", "-c", code, *args],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=child_environment(str(scratch)),
    )


def printed(toolchain: Toolchain, code: str, *args: str, scratch: Path) -> Sequence[str]:
    done = run(toolchain, code, *args, scratch=scratch)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def is_forked(toolchain: Toolchain, scratch: Path) -> bool:
    """What the server forks are all its children; what is cold is a child of ours."""
    return int(printed(toolchain, PARENT, scratch=scratch)[0]) != os.getpid()


def test_it_outlives_the_temporary_folder_of_the_test_that_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cold = ensure("plots", Silent())
    warmed = replace(cold, python=tests.warm._interpreter.__wrapped__("plots", cold.python))
    monkeypatch.undo()
    assert list(tmp_path.glob("**/socket")) == []
    assert is_forked(warmed, tmp_path)


def test_it_has_the_libraries_and_nothing_of_earlier_runs(toolchain: Toolchain, tmp_path: Path) -> None:
    code = """
import sys, numpy
print("matplotlib.backends.backend_agg" in sys.modules, hasattr(numpy, "ours"))
numpy.ours = 1
"""
    for _ in range(2):
        assert printed(toolchain, code, scratch=tmp_path) == ["True False"]


@pytest.mark.parametrize("name", names())
def test_no_library_starts_a_thread_as_it_is_imported(name: str, tmp_path: Path) -> None:
    """A fork has one thread alone, and waits for ever for what another one holds."""
    code = "import os; print(*os.listdir(f'/proc/{os.getppid()}/task'))"
    (threads,) = printed(warm(ensure(name, Silent())), code, scratch=tmp_path)
    assert len(threads.split()) == 1


def test_it_has_the_streams_arguments_folder_and_environment_that_it_was_given(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    code = """
import os, sys
print(sys.argv, os.getcwd(), os.environ["HF_HOME"], sys.stdin.read())
sys.stderr.write("1")
"""
    done = run(toolchain, code, "a", "b c", scratch=tmp_path / "own", stdin="read", cwd=tmp_path)
    assert done.stdout == f"['-c', 'a', 'b c'] {tmp_path} {tmp_path / 'own' / 'hf'} read\n"
    assert done.stderr == "1"


def test_it_is_the_plain_one_in_all_else(toolchain: Toolchain, tmp_path: Path) -> None:
    code = "import sys; print(sys.version, sys.flags, sys.prefix, sys.path)"
    plain = ensure("plots", Silent())
    assert printed(toolchain, code, scratch=tmp_path) == printed(plain, code, scratch=tmp_path)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("raise SystemExit('no')", 1),
        ("1 / 0", 1),
        ("import os; os._exit(9)", 9),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
    ],
)
def test_it_ends_as_a_process_does(toolchain: Toolchain, tmp_path: Path, code: str, status: int) -> None:
    assert run(toolchain, code, scratch=tmp_path).returncode == status


def test_a_killed_worker_leaves_nothing_running(toolchain: Toolchain, tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [toolchain.python, "-I", "-c", code], stdout=subprocess.PIPE, env=child_environment(str(tmp_path))
    )
    assert process.stdout is not None
    fork = Path("/proc") / process.stdout.readline().decode().strip()
    assert fork.exists()
    process.kill()
    process.wait()
    for _ in range(1000):
        if not fork.exists():
            break
        time.sleep(0.01)
    assert not fork.exists()
    assert is_forked(toolchain, tmp_path)


def test_a_command_line_finds_all_toolchains_warm_in_a_cache_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = {name: ensure(name, Silent()) for name in names()}
    monkeypatch.setenv("PHI_BOT_CACHE", str(warm_cache()))
    found = {toolchain.name: ensure(toolchain.name, Silent()) for toolchain in kept.installed()}
    assert {name: t.versions for name, t in found.items()} == {name: t.versions for name, t in cold.items()}
    assert is_forked(found["plots"], tmp_path)


def test_a_worker_of_another_checkout_is_forked_too(toolchain: Toolchain, tmp_path: Path) -> None:
    launcher = tmp_path / "bot" / "worker" / "launch.py"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f"{PARENT}\nprint('theirs')")
    parent, theirs = subprocess.run(
        [toolchain.python, "-I", launcher],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(str(tmp_path)),
    ).stdout.split()
    assert int(parent) != os.getpid()
    assert theirs == "theirs"


def test_another_environment_or_limit_makes_a_cold_one(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_forked(toolchain, tmp_path)
    with data_limit(4 << 30):
        assert not is_forked(toolchain, tmp_path)
        limited = run(
            toolchain, "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0])", scratch=tmp_path
        )
        assert int(limited.stdout) == 4 << 30
    monkeypatch.setenv("LANG", "tlh")
    assert not is_forked(toolchain, tmp_path)
