"""What this machine can install, said before anything is tried."""

import os
import platform
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bot import toolchains
from bot.errors import NoCompilerError, ToolchainError
from bot.progress import Silent
from bot.toolchains import system
from bot.toolchains.install import ensure
from bot.toolchains.kept import cache_folder
from bot.toolchains.lock import Lock, Platform, Processor, read

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def gguf() -> Lock:
    return read(toolchains.lock_file("gguf"))


def here(lock: Lock, row: Platform) -> Lock:
    return replace(lock, platforms={system.name(): row})


def test_this_machine_has_a_name_and_its_python_a_tag() -> None:
    assert re.fullmatch(r"(linux|musl|macos|windows)-[a-z0-9_]+", system.name())
    assert re.fullmatch(r"cp3\d+t?", system.python_tag())


def test_a_lock_for_this_machine_is_not_refused(gguf: Lock) -> None:
    lock = replace(here(gguf, Platform(pythons=(PYTHON,), since=None)), build=None)
    assert system.refusal(lock) is None


def test_another_system_is_refused(gguf: Lock) -> None:
    lock = replace(gguf, platforms={"plan9-mips": Platform(pythons=(PYTHON,), since=None)})
    assert system.refusal(lock) == f"it is locked for plan9-mips, and this is {system.name()}"


def test_another_python_is_refused(gguf: Lock) -> None:
    lock = here(gguf, Platform(pythons=("3.9", "3.10"), since=None))
    expected = f"on {system.name()} it is locked for Python 3.9, 3.10, and this is {system.python_tag()}"
    assert system.refusal(lock) == expected


def test_a_python_without_the_lock_is_refused_as_free_threaded_ones_are(
    gguf: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "python_tag", lambda: f"cp{PYTHON.replace('.', '')}t")
    assert "and this is cp3" in str(system.refusal(here(gguf, Platform(pythons=(PYTHON,), since=None))))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" and sys.platform != "darwin", reason="no version to compare")
def test_an_older_system_is_refused(gguf: Lock) -> None:
    lock = here(gguf, Platform(pythons=(PYTHON,), since="99.10"))
    assert re.fullmatch(r"it needs (glibc|macOS) 99\.10 or newer, and this is [\d.]+", str(system.refusal(lock)))
    assert system.refusal(replace(here(gguf, Platform(pythons=(PYTHON,), since="2.4")), build=None)) is None


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the processor's flags are read from /proc")
def test_a_processor_without_the_needed_instructions_is_refused(gguf: Lock) -> None:
    assert gguf.build is not None
    lock = here(gguf, Platform(pythons=(PYTHON,), since=None))
    build = replace(gguf.build, processors={system.name(): Processor(flags=("fpu9000",), arguments=())})
    refused = system.refusal(replace(lock, build=build))
    assert refused == "it is built for a processor with fpu9000, which this one lacks"


def test_a_compiler_is_tried_not_only_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "c++"
    shim.write_text("#!/bin/sh\necho 'install the developer tools' >&2\nexit 1\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NoCompilerError, match=r"no C\+\+ compiler") as caught:
        system.compiler("gguf")
    assert "Install" in caught.value.hint


def test_a_compiler_that_is_asked_for_must_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoCompilerError, match="CXX is no-such-compiler, which does not compile"):
        system.compiler("gguf")


def test_a_missing_compiler_is_said_before_anything_is_downloaded(
    gguf: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system.refusal(gguf) is not None:
        pytest.skip("this machine cannot install gguf in any case")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PHI_BOT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(NoCompilerError):
        ensure("gguf", Silent())
    assert [p.suffix for p in cache_folder().iterdir()] == [".lock"]


def test_require_names_the_toolchain_and_the_reason(gguf: Lock) -> None:
    with pytest.raises(ToolchainError, match="toolchain gguf cannot be installed here: it is locked for , and this is"):
        system.require(replace(gguf, platforms={}), "gguf")


@pytest.mark.skipif(os.name != "posix", reason="a package manager's command is for POSIX systems")
@pytest.mark.parametrize("manager", ["apt-get", "dnf", "zypper", "pacman"])
@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has its own way")
def test_the_hint_is_of_this_systems_package_manager(
    manager: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / manager).write_text("")
    (tmp_path / manager).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NoCompilerError) as caught:
        system.compiler("gguf")
    assert caught.value.hint.startswith(f"Install one: {manager} ")
