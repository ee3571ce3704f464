"""The memory of processes, as the system counts it. Imports only the standard library.

Only memory of their own counts. Pages of files that they map, weights above all, can be given back at any time.
"""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def own_memory(pid: int) -> int:
    """Return the bytes that a process holds; 0 for one that is gone, or where the system does not tell."""
    ask = {"linux": _linux, "darwin": _macos, "win32": _windows}.get(sys.platform)
    with suppress(OSError, ValueError, AttributeError):
        return ask(pid) if ask else 0
    return 0


def group_memory(leader: int) -> int:
    """Return the bytes that the processes of a group hold, by the id of the one that it is named after."""
    return sum(own_memory(pid) for pid in _group(leader))


def _group(leader: int) -> Iterator[int]:
    if sys.platform == "linux":
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ValueError, IndexError):  # it is gone
                if int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[2]) == leader:
                    yield int(stat.parent.name)
    elif sys.platform == "darwin":
        listed = subprocess.run(["ps", "-axo", "pid=,pgid="], capture_output=True, text=True).stdout
        for line in listed.splitlines():
            pid, group = line.split()
            if int(group) == leader:
                yield int(pid)
    else:
        yield leader


def _linux(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) << 10 for name in ("RssAnon", "VmSwap") if name in fields)


def _macos(pid: int) -> int:
    class Usage(ctypes.Structure):  # rusage_info_v0 of sys/resource.h
        _fields_ = (
            ("uuid", ctypes.c_uint8 * 16),
            *((name, ctypes.c_uint64) for name in ("user", "system", "idle", "interrupts", "pageins", "wired")),
            *((name, ctypes.c_uint64) for name in ("resident", "footprint", "started", "ended")),
        )

    usage = Usage()
    if ctypes.CDLL(None).proc_pid_rusage(pid, 0, ctypes.byref(usage)) != 0:
        return 0
    return int(usage.footprint)


def _windows(pid: int) -> int:
    class Counters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS_EX of psapi.h
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("faults", ctypes.c_uint32),
            *((f"_{i}", ctypes.c_size_t) for i in range(8)),
            ("private", ctypes.c_size_t),
        )

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.OpenProcess(0x1000, False, pid))  # to ask, and no more
    counters = Counters(size=ctypes.sizeof(Counters))
    try:
        told = kernel.K32GetProcessMemoryInfo(handle, ctypes.byref(counters), ctypes.sizeof(Counters))
    finally:
        kernel.CloseHandle(handle)
    return int(counters.private) if told else 0
