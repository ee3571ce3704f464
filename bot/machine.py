"""What the machine at hand is, and what it can run."""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, cast

System = Literal["linux", "macos", "windows"]
Architecture = Literal["x86_64", "arm64"]

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def lacks(target: str) -> str | None:
    """Say in one line what this machine lacks to run files for a target device, or return None if it has it.

    What cannot run here cannot be verified here, and so is not built for publication.
    """
    match target:
        case "cpu":
            return None
        case "cuda":
            return None if nvidia_memory() else "its runtime needs an NVIDIA GPU, and this machine has none"
        case "dml":
            return None if platform.system() == "Windows" else "its runtime (DirectML) needs Windows"
        case _:
            return f"its runtime ({target}) cannot run on this machine"


def system_and_architecture() -> tuple[System, Architecture]:
    """Return what this machine is, as rows of runners say it; what none of them is counts as Linux."""
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")
    architecture = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"
    return cast("System", system), cast("Architecture", architecture)


def memory() -> int:
    """Return the memory that this process may use, in bytes: the machine's, or its container's."""
    total = _windows_memory() if sys.platform == "win32" else _pages()
    for file in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            total = min(total, int(Path(file).read_text(encoding="ascii")))
    return total


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    return shutil.disk_usage(there).free


@cache
def nvidia_memory() -> int:
    """Return the memory of the first NVIDIA GPU in bytes, 0 without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    query = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=30)
    first = listed.stdout.partition("\n")[0].strip()
    if listed.returncode != 0 or not first:
        return 0
    return int(first) << 20 if first.isdecimal() else memory()  # a GPU with none of its own shares the machine's


def _pages() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows_memory() -> int:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "paged", "free_paged", "virtual", "free_virtual")),
            ("extended", ctypes.c_uint64),
        )

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.total)
