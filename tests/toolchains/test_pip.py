"""What pip may see, what it says, and what a person is told when it fails."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import DiskFullError, ToolchainError
from bot.toolchains.pip import CommandFailed, Packages, compilation, environment, error, essence, run
from bot.toolchains.pytorch import cpu_index
from tests.toolchains.processes import wait_for_end

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "MY_PASSWORD")

NO_SUCH_PACKAGE = """\
Collecting a==1
ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)
ERROR: No matching distribution found for a==1
"""
OTHER_BYTES = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, …
    a==1 from https://example.org/a-1-py3-none-any.whl (from -r requirements.txt (line 1)):
        Expected sha256 0000
             Got        1111
"""
NOT_COMPILED = """\
  [3/78] /usr/bin/gcc -c ggml.c
  ggml.c:3:1: error: unknown type name 'flot'
  error: subprocess-exited-with-error
ERROR: Failed building wheel for llama_cpp_python
"""
NOT_IMPORTED = """\
Traceback (most recent call last):
ImportError: libstdc++.so.6: version `GLIBCXX_3.4.30' not found
"""

# Starts another process, says which, and waits for it.
PARENT = """\
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""


class Seen:
    """A task that remembers."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, int, int, str]] = []

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        self.updates.append((what, done, total, unit))


def test_no_secret_reaches_a_child_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "the-secret")
    seen: list[str] = []
    code = "import os; print(os.environ)"
    run([sys.executable, "-c", code], log=tmp_path / "log", env=environment(tmp_path), follow=seen.append)
    assert "PATH" in "".join(seen)
    assert "the-secret" not in "".join(seen)


def test_where_packages_come_from_is_the_machines_where_they_go_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = {
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_CERT": "/ca.pem",
        "SSL_CERT_FILE": "/ca.pem",
        "https_proxy": "http://proxy.example:3128",
        "CXX": "clang++",
    }
    kept_back = {
        "PIP_TARGET": "/elsewhere",
        "PIP_CONSTRAINT": "/constraints.txt",
        "PYTHONPATH": "/elsewhere",
        "PYTHONHOME": "/elsewhere",
        "VIRTUAL_ENV": "/elsewhere",
        "CMAKE_ARGS": "-DGGML_CUDA=ON",
    }
    for name, value in (passed | kept_back).items():
        monkeypatch.setenv(name, value)
    env = environment(tmp_path)
    assert passed.items() <= env.items()
    assert not kept_back.keys() & env.keys()
    assert env["TMPDIR"] == str(tmp_path)
    assert env["PIP_USER"] == "0"  # whatever pip's configuration says


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,12}(TOKEN|SECRET|PASSWORD|KEY)", fullmatch=True), st.just("x")))
def test_no_name_of_a_secret_is_on_the_list(names: dict[str, str]) -> None:
    before = dict(os.environ)
    os.environ.update(names)
    try:
        assert not names.keys() & environment(Path()).keys()
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_output_of_a_command_is_followed_and_kept(tmp_path: Path) -> None:
    seen: list[str] = []
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    with pytest.raises(CommandFailed, match="err"):
        run([sys.executable, "-u", "-c", code], log=tmp_path / "log", env=environment(tmp_path), follow=seen.append)
    assert seen == ["out\n", "err\n"]
    assert (tmp_path / "log").read_text().endswith("out\nerr\n")


def test_a_command_ends_with_the_function_that_ran_it(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", PARENT], log=tmp_path / "log", env=environment(tmp_path), follow=stop)
    wait_for_end(int((tmp_path / "log").read_text().splitlines()[-1]))


def test_packages_are_counted_as_pip_collects_them(tmp_path: Path) -> None:
    seen = Seen()
    packages = Packages(seen, 4, tmp_path)
    for line in (
        "Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment\n",
        "Collecting small==1.0 (from -r requirements.txt (line 1))\n",
        "  Downloading small-1.0-py3-none-any.whl (5.3 kB)\n",
        "Processing /wheels/torch-2.13.0-cp311-cp311-linux_x86_64.whl (from -r requirements.txt (line 2))\n",
        "Collecting large==1.0 (from -r requirements.txt (line 3))\n",
        "  Downloading https://example.org/large-1.0-py3-none-any.whl (191.8 MB)\n",
    ):
        packages.line(line)
    assert seen.updates[0] == ("downloading", 1, 3, "packages")
    assert seen.updates[-1] == ("downloading large (191.8 MB)", 3, 3, "packages")


def test_compilation_is_counted_in_files() -> None:
    seen = Seen()
    follow = compilation(seen)
    for line in ("-- Configuring done\n", "  [36/78] /usr/bin/g++ -DX\n", "warning: [1/2 of it\n"):
        follow(line)
    assert seen.updates == [("compiling", 36, 78, "files")]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (NO_SUCH_PACKAGE, "No matching distribution found for a==1"),
        (OTHER_BYTES, "a==1 is not the file that is locked (its sha256 differs)"),
        (NOT_COMPILED, "ggml.c:3:1: error: unknown type name 'flot'"),
        (NOT_IMPORTED, "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.30' not found"),
        ("", "it printed nothing"),
    ],
)
def test_the_line_that_says_most_is_found(output: str, says: str) -> None:
    assert essence(output) == says


@given(st.text())
def test_there_is_always_one_line(output: str) -> None:
    said = essence(output)
    assert said
    assert len(said.splitlines()) == 1


def test_a_full_disk_and_a_dead_network_are_told_apart(tmp_path: Path) -> None:
    full = CommandFailed("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device")
    assert isinstance(error("the toolchain tiny", full, tmp_path / "log"), DiskFullError)
    dead = CommandFailed(
        "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'\n"
        "ERROR: No matching distribution found for a==1"
    )
    told = error("the toolchain tiny", dead, tmp_path / "log")
    assert isinstance(told, ToolchainError)
    assert told.message == "the toolchain tiny could not be installed: a package index does not answer"
    assert "PHI_BOT_TORCH_INDEX" not in told.hint
    assert str(tmp_path / "log") in told.hint
    torch = CommandFailed(f"Looking in indexes: https://index.example/simple, {cpu_index()}\n{dead.output}")
    assert "PHI_BOT_TORCH_INDEX names another" in error("the toolchain tiny", torch, tmp_path / "log").hint


def test_a_python_that_cannot_make_environments_is_said_so(tmp_path: Path) -> None:
    printed = "The virtual environment was not created successfully because ensurepip is not\navailable. …\n"
    told = error("the toolchain tiny", CommandFailed(printed), tmp_path / "log")
    assert told.message.endswith("this Python cannot make virtual environments")
    assert "python3-venv" in told.hint
