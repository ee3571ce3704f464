"""Watch a worker: one that goes past its limits of time and memory is ended, with all that it started."""

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bot.printable import duration, size
from bot.system.processes import group_memory

_POLL_SECONDS = 0.5
_TIMES = (
    2  # that memory has to be seen past its limit: a process that is about to start another counts twice for a moment
)


@dataclass(frozen=True, kw_only=True)
class WorkerLimits:
    """The limits of a worker and its children: ``seconds`` of elapsed time, and ``memory`` of its own in bytes."""

    seconds: float
    memory: int


class LimitWatch:
    """Looks after a worker from a thread, until ``close``. ``over`` says which limit was passed, or is ""."""

    def __init__(self, process: subprocess.Popen[bytes], limits: WorkerLimits | None, end: Callable[[], None]) -> None:
        """Begin. ``end`` is called once, when a limit is passed; without limits nothing is watched."""
        self.over = ""
        self._process, self._limits, self._end = process, limits, end
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if limits is not None:
            self._thread.start()

    def close(self) -> None:
        """Look no longer."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        assert self._limits is not None  # noqa: S101 - begun with them
        began, past, limits = time.monotonic(), 0, self._limits
        while not self._closed.wait(_POLL_SECONDS) and self._process.poll() is None:
            if time.monotonic() - began > limits.seconds:
                self.over = f"it was still at work after {duration(limits.seconds)}, its limit of time"
            held = group_memory(self._process.pid)
            past = past + 1 if held > limits.memory else 0
            if past >= _TIMES:
                self.over = f"it held {size(held)} of memory, and its limit is {size(limits.memory)}"
            if self.over:
                self._end()
                return
