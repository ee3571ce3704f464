"""The output of a job, line by line with its time, and how the client reads it (server-sent events)."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from bot.localhub.job_records import iso_time

LONGEST_LINE = 64 << 10  # bytes; what is longer becomes several lines
MOST_BYTES = 64 << 20  # of a whole log; what comes after is dropped, and that is said

_POLL_SECONDS = 0.1
_KEEP_ALIVE_SECONDS = 15.0  # a reader that went away is noticed when this cannot be sent


def write(log: Path, lines: IO[bytes]) -> None:
    """Add the lines of a pipe to a log until the pipe ends."""
    with log.open("ab") as file:
        size = file.tell()
        while line := lines.readline(LONGEST_LINE):
            if size <= MOST_BYTES:
                size += file.write(_event(line.decode(errors="replace").rstrip("\r\n")))
                if size > MOST_BYTES:
                    file.write(_event(f"===== The log has {MOST_BYTES} bytes: what follows is left out ====="))
                file.flush()


def note(log: Path, text: str) -> None:
    """Add a line of the Hub's own."""
    with log.open("ab") as file:
        file.write(_event(text))


def follow(log: Path, is_over: Callable[[], bool], *, tail: int | None) -> Iterator[bytes]:
    """Yield a log as server-sent events until the job is over; ``tail`` leaves out all but the last lines so far."""
    over = is_over()  # asked before the log is read: what is written later is read in the next round
    lines, offset = _lines(log, 0)
    yield from _sent(lines if tail is None else lines[max(0, len(lines) - tail) :])
    quiet_since = time.monotonic()
    while not over:
        time.sleep(_POLL_SECONDS)
        over = is_over()
        lines, offset = _lines(log, offset)
        if lines:
            yield from _sent(lines)
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > _KEEP_ALIVE_SECONDS:
            yield b": keep-alive\n\n"
            quiet_since = time.monotonic()


def _event(text: str) -> bytes:
    return json.dumps({"data": text, "timestamp": iso_time(time.time())}).encode() + b"\n"


def _lines(log: Path, offset: int) -> tuple[list[bytes], int]:
    """Return the whole lines behind an offset, and where they end."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return whole.splitlines(), offset + len(whole)


def _sent(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield b"data: " + line + b"\n\n"
