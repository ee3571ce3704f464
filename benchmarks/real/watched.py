"""Run a command and say what it took, with all processes that it starts. Reads /proc, so it takes Linux."""

import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bot.records.artifacts import Record

_PROC = Path("/proc")
_EVERY = 0.05  # seconds between two looks at the memory
_DISK_EVERY = 10  # looks at the memory between two at the disk, which cost more


@dataclass(frozen=True, kw_only=True)
class Taken(Record):
    """The cost of a command: elapsed seconds, seconds of processors, and bytes.

    The peaks of memory are of all processes together, as twenty looks a second saw them; of one process alone, what the
    kernel noted as its most counts too. Resident memory has the pages of files in it, anonymous has none. ``disk`` is
    the most that lay in its folder. ``read`` and ``written`` are what the processes asked for by calls (what they read
    of mapped files is not in it); ``from_disk`` and ``to_disk`` what the kernel then moved.
    """

    code: int
    seconds: float
    cpu_seconds: float
    resident: int
    anonymous: int
    disk: int
    read: int
    written: int
    from_disk: int
    to_disk: int


def run(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    kill_after: float = math.inf,
) -> Taken:
    """Run a command in a folder; what it prints is in ``log``, and what it says of errors and progress beside that.

    After so many seconds it is killed, with all that it started; then what its children took is not known.
    """
    before = time.monotonic()
    with log.open("wb") as output, log.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=dict(environment)
        )
        try:
            resident = anonymous = disk = looks = 0
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                now, alone, unbacked = _memory(process.pid)
                resident, anonymous = max(resident, now, alone), max(anonymous, unbacked)
                if looks % _DISK_EVERY == 0:
                    disk = max(disk, allocated(folder))
                looks += 1
                if time.monotonic() - before > kill_after:
                    _kill(process.pid)
                time.sleep(_EVERY)
        except BaseException:
            process.kill()
            process.wait()
            raise
    seconds = time.monotonic() - before
    # Of a process that has ended and was not waited for, the kernel still tells; with its children, who were.
    moved = _numbers(_PROC / str(process.pid) / "io")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for: Popen need not
    return Taken(
        code=process.returncode,
        seconds=round(seconds, 2),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 2),
        resident=resident,
        anonymous=anonymous,
        disk=max(disk, allocated(folder)),
        read=moved["rchar"],
        written=moved["wchar"],
        from_disk=moved["read_bytes"],
        to_disk=moved["write_bytes"],
    )


def _kill(root: int) -> None:
    for pid in list(_below(root)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def allocated(folder: Path) -> int:
    """Return the bytes that the files under a folder take on the disk. Holes take none, nor do links to the source."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # it went while we looked
                found = Path(parent, name).lstat()
                total += found.st_blocks * 512 if found.st_nlink == 1 else 0
    return total


def _memory(root: int) -> tuple[int, int, int]:
    """Return the resident memory of a process and all below it, the most that one had, and their anonymous memory."""
    resident = alone = anonymous = 0
    for pid in _below(root):
        with suppress(OSError):  # it has ended
            found = _numbers(_PROC / str(pid) / "status")
            resident += found.get("VmRSS", 0) << 10  # a process that has ended has none
            anonymous += found.get("RssAnon", 0) << 10
            alone = max(alone, found.get("VmHWM", 0) << 10)
    return resident, alone, anonymous


def _below(root: int) -> Iterator[int]:
    """Yield a process and all that it, or one of these, has started."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


def _numbers(file: Path) -> dict[str, int]:
    """Return the first number of each ``name: number`` line."""
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        first = value.split()[:1]
        if first and first[0].isdigit():
            found[name] = int(first[0])
    return found
