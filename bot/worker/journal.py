"""The finished parts of a large file while it is written, so that a kill costs little.

The file is ``NAME.part`` until it has all its bytes, and ``NAME.journal`` beside it says what of it is whole. That
holds until the system starts anew or, where it does not say when it did, was on the disk before the journal said so.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from bot.records.artifacts import Json
from bot.records.digests import digest_of

_MARK_BYTES = 256 << 20  # what a kill costs at most, in bytes written …
_MARK_SECONDS = 5.0  # … or in time, whichever comes first


class Journal:
    """The journal of one file. ``said`` is what the last mark said, or None: then the file is to be made anew.

    ``plan`` is all that decides the file's bytes, beside what its folder already stands for (one build key): what was
    written under another plan is of no use. ``fits`` says whether a part of so many bytes can be what a mark said.
    """

    def __init__(self, folder: Path, name: str, plan: Json, fits: Callable[[Json, int], bool]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.part = folder / f"{name}.part"
        self._file = folder / f"{name}.journal"
        self._plan = digest_of(plan)
        self.said = self._last(fits)
        if self.said is None:
            # Before the first byte of another file: whoever is killed before its own first mark would leave an old
            # journal beside it.
            self._file.unlink(missing_ok=True)
        self._when = time.monotonic()

    def due(self, unsaid: int) -> bool:
        """Say whether a mark is worth what it costs, with so many bytes written since the last."""
        return unsaid >= _MARK_BYTES or time.monotonic() - self._when >= _MARK_SECONDS

    def mark(self, descriptor: int, said: Json) -> None:
        """Say what is whole of the part, which is open as ``descriptor``."""
        boot = _boot()
        if boot is None:
            os.fsync(descriptor)
        # The journal itself is not made sure of: one that is lost costs work, and never a wrong byte.
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({"plan": self._plan, "boot": boot, "said": said}), encoding="utf-8")
        temporary.replace(self._file)
        self._when = time.monotonic()

    def finish(self, target: Path) -> None:
        """Give the file its name: it is whole."""
        self.part.replace(target)
        self._file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file: it will never be whole."""
        self._file.unlink(missing_ok=True)
        self.part.unlink()

    def _last(self, fits: Callable[[Json, int], bool]) -> Json:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            holds = kept["plan"] == self._plan and kept["boot"] in (None, _boot())
            if holds and fits(kept["said"], self.part.stat().st_size):
                return kept["said"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never begun, or of no use
        return None


def _boot() -> str | None:
    """Return what tells this start of the system from all others, or None where it does not say.

    What a process wrote outlives it, but not the system before it is on the disk. Waiting for that at each mark made
    builds that hardly compute half as fast as the tools, which never wait.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
