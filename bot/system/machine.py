"""The machine at hand."""

import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, cast

System = Literal["linux", "macos", "windows"]
Architecture = Literal["x86_64", "arm64"]

# Where Linux says which group a process is in, and what groups may use (https://docs.kernel.org/admin-guide/cgroup-v2.html
# and …/cgroup-v1/): version 2 has one tree of groups, version 1 one tree for each thing that is limited.
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def system_and_architecture() -> tuple[System, Architecture]:
    """Return what this machine is, as rows of runners say it; what none of them is counts as Linux."""
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")
    architecture = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"
    return cast("System", system), cast("Architecture", architecture)


def memory() -> int:
    """Return the memory that this process may use, in bytes: the machine's, or its container's."""
    limits = (_number(group / name) for group in _groups("memory") for name in ("memory.max", "memory.limit_in_bytes"))
    return min([whole_memory(), *(limit for limit in limits if limit is not None)])


def whole_memory() -> int:
    """Return the memory of the machine in bytes, whatever of it this process may use."""
    return _windows_memory() if sys.platform == "win32" else _pages()


def processors() -> int:
    """Return how many processors this process may keep busy: of those it may run on, what its container is granted."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = (quota for group in _groups("cpu") if (quota := _quota(group)) is not None)
    return max(1, min([count, *(math.ceil(quota) for quota in quotas)]))


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    return shutil.disk_usage(there).free


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in: limits of each of them hold.

    In most containers the own group looks like the root of the tree; where it does not, and its folder cannot be seen,
    the root is what is left to look at.
    """
    with suppress(OSError):  # not Linux
        for line in _OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            if number != "0" and controller not in controllers.split(","):
                continue
            root = _GROUPS if number == "0" else _GROUPS / controller
            own = root / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _quota(group: Path) -> float | None:
    """Return how many processors a group may keep busy, or None where it may all."""
    with suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    granted, period_us = (_number(group / f"cpu.cfs_{what}_us") for what in ("quota", "period"))
    return granted / period_us if granted is not None and granted > 0 and period_us else None  # -1: no limit


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):  # no such file, or "max"
        return int(file.read_text(encoding="ascii"))
    return None


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
