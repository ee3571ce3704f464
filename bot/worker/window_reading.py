"""Reading a reference's windows with a runtime: as many as it takes to say how far an artifact is from the original.

The first window of each kind of text is always read, and the others only while the distance on the short side is not
known well enough. A deep reading stands for all files of a format, whose runtime and graph are the same: it also takes
the window that reaches farthest, and what else people set for the runtime.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask
from bot.worker import distance
from bot.worker.distance import Positions
from bot.worker.feed import Feed
from bot.worker.harness import Reporter
from bot.worker.head import Head
from bot.worker.runtime import Array, Logits, Runtime, expect
from bot.worker.windows import MIXED

_ENOUGH = 0.1  # standard error of the mean KL, as a part of it; of the real model, one window of each kind gives 0.06
_LITTLE = 1e-4  # nats: a standard error that is small enough in any case


class WindowReading:
    """Reads windows with one runtime, and compares what it predicts with what the reference does."""

    def __init__(
        self, runtime: Runtime, task: VerifyTask, reference: Json, feed: Feed | None, report: Reporter
    ) -> None:
        """Begin; nothing is read yet."""
        self._runtime, self._task, self._report = runtime, task, report
        self._windows: list[Json] = reference["windows"]
        self._head = Head(Path(task.source), reference["head"], feed)
        self._done = 0

    def positions(self) -> list[Positions]:
        """Return the measurements of all windows that are read, each under each setting that it is read under.

        Other settings come last, one after the other: a runtime may have to load the artifact anew for each.
        """
        short = [w for w in self._windows if w["side"] == "short"]
        first = {w["kind"]: w for w in reversed(short) if w["kind"] != MIXED}
        at_once = [w for w in self._windows if w in first.values()]
        farthest = max(self._windows, key=lambda w: w["scored"][-1])
        others = self._runtime.other_settings if any(w["side"] == "long" for w in self._windows) else {}
        if not self._task.deep:
            others = {}
        elif farthest not in at_once:
            at_once.append(farthest)
        again = [(w, setting, run) for setting, run in others.items() for w in at_once if w is not farthest]
        total = len(at_once) + len(again)
        expect(self._runtime, [w["ids"] for w in first.values()])
        read = [self._read(window, "", self._runtime.logits, total) for window in at_once]
        later = [w for w in short if w not in at_once]
        while later and not _is_enough(read):
            read.append(self._read(later.pop(0), "", self._runtime.logits, len(self._windows) + len(again)))
        read += [self._read(window, setting, run, self._done + len(again)) for window, setting, run in again]
        self._report.progress("measuring", self._done, self._done, "windows")
        return read

    def _read(self, window: Json, setting: str, run: Logits, total: int) -> Positions:
        self._report.progress("measuring", self._done, total, "windows")
        hidden = np.load(Path(self._task.reference) / window["file"], mmap_mode="r", allow_pickle=False)
        expected: Iterable[Array] = self._head.parts(hidden)
        at = np.asarray(window["scored"])
        text = [*window["ids"], window["following"]]
        got = run(window["ids"], window["scored"])
        kl, same, excess = distance.compare(expected, got, [text[i + 1] for i in at], threads=self._task.threads)
        self._done += 1
        return Positions(
            window=window["file"],
            side=window["side"],
            kind=window["kind"],
            setting=setting,
            at=at,
            kl=kl,
            same=same,
            excess=excess,
        )


def _is_enough(read: Sequence[Positions]) -> bool:
    """Say whether what was read of the short side in the recommended setting tells its mean KL well enough."""
    short = [p for p in read if p.side == "short" and not p.setting]
    found = distance.distances(short)[0]
    return found.standard_errors.mean_kl <= max(_ENOUGH * found.figures.mean_kl, _LITTLE)
