"""A sign of life: where nothing was said for half a minute, a line says what goes on and for how long.

A log that stands still is taken for a process that hangs, and some runners end one that is silent. Whatever is silent
here - a worker in native code, a Hub that is slow, a lock of another bot - need not know of it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SILENCE = 30.0  #: seconds without a line before one is due

Work = Callable[[], str | None]  #: says what goes on; None where a person sees that anyway


class Heartbeat:
    """Says what goes on where nobody else does, as long as there is work."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """``say`` prints a line, and calls ``heard``."""
        self._say = say
        self._works: list[Work] = []
        self._changed = threading.Condition()
        self._spoken = time.monotonic()

    def heard(self) -> None:
        """Note that a line was printed, whoever did it."""
        self._spoken = time.monotonic()

    @contextmanager
    def during(self, work: Work) -> Iterator[None]:
        """Speak for a piece of work until the block ends. If pieces are nested, the innermost one counts."""
        with self._changed:
            self._works.append(work)
            if len(self._works) == 1:
                self.heard()
                threading.Thread(target=self._beat, daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._works.remove(work)
                self._changed.notify_all()

    def _beat(self) -> None:
        with self._changed:
            while self._works:
                left = self._spoken + SILENCE - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                self.heard()
                text = self._works[-1]()
                if text is not None:
                    try:
                        self._say(text)
                    except (OSError, ValueError):  # nobody reads it any more; the work itself will find out
                        return
