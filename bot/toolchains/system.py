"""This machine, as far as installing a toolchain is concerned."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

from bot.errors import NoCompilerError, ToolchainError
from bot.toolchains.lock import Lock


@cache
def name() -> str:
    """Return the platform as locks name it: ``linux-x86_64``, ``linux-aarch64``, ``macos-arm64``, ``windows-amd64``.

    A Linux whose C library is not glibc is ``musl-…``, for which no lock has wheels.
    """
    machine = platform.machine().lower()
    match sys.platform:
        case "darwin":
            return f"macos-{machine}"
        case "win32":
            return f"windows-{machine}"
        case "linux":
            return f"linux-{machine}" if platform.libc_ver()[0] == "glibc" else f"musl-{machine}"
        case other:
            return f"{other}-{machine}"


@cache
def python_tag() -> str:
    """Return the Python at hand as wheels name it: ``cp311``; free-threaded builds have a ``t`` at the end."""
    implementation = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, sys.implementation.name)
    threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{implementation}{sys.version_info.major}{sys.version_info.minor}{threaded}"


def refusal(lock: Lock) -> str | None:
    """Say in one line why a lock cannot be installed with this Python on this machine, or return None if it can."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    row = lock.platforms.get(name())
    if row is None:
        return f"it is locked for {', '.join(lock.platforms)}, and this is {name()}"
    if python not in row.pythons or python_tag() != f"cp{python.replace('.', '')}":
        return f"on {name()} it is locked for Python {', '.join(row.pythons)}, and this is {python_tag()}"
    if row.since and _older(_system_version(), row.since):
        what = "macOS" if sys.platform == "darwin" else "glibc"
        return f"it needs {what} {row.since} or newer, and this is {_system_version()}"
    if lock.build is not None and name() in lock.build.processors:
        wanted = set(lock.build.processors[name()].flags)
        missing = wanted and wanted - processor_flags()  # a Mac shows none, and none are wanted of it
        if missing:
            return f"it is built for a processor with {', '.join(sorted(missing))}, which this one lacks"
    return None


def compiler(toolchain: str) -> str:
    """Return the C++ compiler that CMake will find, tried on a small program; ``toolchain`` is what it is for.

    Raises NoCompilerError, which says what to install.
    """
    if sys.platform == "win32":  # CMake finds Visual Studio where no PATH leads to
        return "Visual Studio"
    asked = os.environ.get("CXX")
    for candidate in [asked] if asked else ["c++", "g++", "clang++"]:
        if shutil.which(candidate) and _compiles(candidate):
            return candidate
    what = f"CXX is {asked}, which does not compile" if asked else "no C++ compiler"
    raise NoCompilerError(
        f"{what}, and the toolchain {toolchain} is compiled on this machine", hint=_how_to_get_a_compiler()
    )


def _compiles(candidate: str) -> bool:
    # On a Mac without its developer tools, c++ is there and does nothing but offer to install them.
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "try.cpp"
        source.write_text("#include <vector>\nint main() { return std::vector<int>{}.size(); }\n", encoding="utf-8")
        command = [candidate, "-std=c++17", str(source), "-o", str(Path(folder) / "try")]
        try:
            return subprocess.run(command, capture_output=True, timeout=120).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def _how_to_get_a_compiler() -> str:
    if sys.platform == "darwin":
        return "Install Apple's command line tools: xcode-select --install"
    for manager, command in {
        "apt-get": "apt-get install g++",
        "dnf": "dnf install gcc-c++",
        "zypper": "zypper install gcc-c++",
        "pacman": "pacman -S gcc",
    }.items():
        if shutil.which(manager):
            return f"Install one: {command} (as root)"
    return "Install g++ or clang++, and put it on the PATH."


def require(lock: Lock, toolchain: str) -> None:
    """Raise ToolchainError if a lock cannot be installed here, NoCompilerError if it takes a compiler and none is."""
    reason = refusal(lock)
    if reason is not None:
        raise ToolchainError(
            f"the toolchain {toolchain} cannot be installed here: {reason}",
            hint="`phi-bot doctor` says what works on this machine.",
        )
    if lock.build is not None:
        compiler(toolchain)


def _system_version() -> str:
    return platform.mac_ver()[0] if sys.platform == "darwin" else platform.libc_ver()[1]


def _older(version: str, than: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", text)]

    return numbers(version) < numbers(than)


def processor_flags() -> set[str]:
    """Return the flags of this processor, as Linux shows them in /proc/cpuinfo."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    match = re.search(r"(?mi)^(?:flags|features)\s*:\s*(.*)$", text)
    return set(match[1].split()) if match else set()
