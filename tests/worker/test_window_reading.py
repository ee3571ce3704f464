"""Which windows of a reference a runtime reads: no more than it takes, and all kinds of text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from bot import catalogue
from bot.records.tasks import VerifyTask
from bot.worker.distance import Positions
from bot.worker.harness import Reporter
from bot.worker.runtime import Logits, Runtime
from bot.worker.window_reading import WindowReading
from tests.worker.test_weights import checkpoint

Array = Any

CHANCE = np.random.default_rng(0)
HEAD = CHANCE.normal(0, 1, (64, 32)).astype(np.float32)
KINDS = ("prose", "code", "maths")
WINDOWS = [*((kind, n) for kind in KINDS for n in (0, 1)), ("mixed", "deep"), ("mixed", "long")]


class NoisyRuntime:
    """A runtime whose states are off by so much at each position of each window; it remembers what it was asked."""

    def __init__(self, states: Mapping[int, Array], noise: Callable[[int], Array]) -> None:
        self.asked: list[tuple[str, int]] = []
        self.logits = self._setting("", states, noise)
        self.other_settings = {"another": self._setting("another", states, noise)}

    def _setting(self, name: str, states: Mapping[int, Array], noise: Callable[[int], Array]) -> Logits:
        def logits(ids: Sequence[int], positions: Sequence[int]) -> Array:
            self.asked.append((name, ids[0]))
            return (states[ids[0]] + noise(len(positions))[:, None]).astype(np.float32) @ HEAD.T

        return logits


Read = Callable[..., tuple[list[Positions], list[tuple[str, str]]]]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    """Read windows with a runtime of some noise; return what was measured, and which windows in which settings."""

    def run(noise: Callable[[int], Array], *, deep: bool, longrope: bool = True) -> tuple[list[Positions], Any]:
        source = tmp_path / "source"
        source.mkdir()
        checkpoint(source, {"lm_head.weight": HEAD})
        windows: list[dict[str, Any]] = []
        states: dict[int, Array] = {}
        for kind, n in WINDOWS if longrope else WINDOWS[:-1]:
            place, first = len(windows), {"long": 400, "deep": 100}.get(str(n), 4)
            states[place] = CHANCE.normal(0, 1, (100, 32)).astype(np.float32)
            np.save(tmp_path / f"{kind}-{n}.npy", states[place])
            windows.append(
                {
                    "side": "long" if n == "long" else "short",
                    "kind": kind,
                    "ids": [place] * (first + 100),
                    "following": 0,
                    "scored": list(range(first, first + 100)),
                    "file": f"{kind}-{n}.npy",
                }
            )
        runtime = NoisyRuntime(states, noise)
        task = VerifyTask(
            artifact="",
            variant=catalogue.all_variants()["gguf/q4_k_m"],
            source=str(source),
            reference=str(tmp_path),
            threads=1,
            deep=deep,
        )
        reference = {"windows": windows, "head": {"weight": "lm_head.weight", "bias": None}}
        report = Reporter(quiet)
        found = WindowReading(cast("Runtime", runtime), task, reference, None, report).positions()
        return found, [(windows[place]["file"].removesuffix(".npy"), name) for name, place in runtime.asked]

    with (tmp_path / "events").open("wb") as events:
        quiet = events.fileno()
        yield run


def even(count: int) -> Array:
    return np.where(np.arange(count) % 2, 0.2, -0.2)


def seldom(count: int) -> Array:
    """Noise at few positions: their mean is not known well."""
    return np.where(np.arange(count) % 50 == 7, 3 * CHANCE.normal(0, 1, count), 0.0)


def test_one_window_of_each_kind_is_enough_where_the_distance_is_known_well(read: Read) -> None:
    found, asked = read(even, deep=False)
    assert asked == [("prose-0", ""), ("code-0", ""), ("maths-0", "")]
    assert [(p.window, p.side, p.setting) for p in found] == [(f"{k}-0.npy", "short", "") for k in KINDS]


def test_a_file_that_stands_for_its_format_also_reads_the_farthest_window_and_other_settings(read: Read) -> None:
    _, asked = read(even, deep=True)
    first = [f"{kind}-0" for kind in KINDS]
    assert asked == [*((w, "") for w in (*first, "mixed-long")), *((w, "another") for w in first)]


def test_without_longrope_the_deep_window_is_the_farthest_and_there_are_no_other_settings(read: Read) -> None:
    _, asked = read(even, deep=True, longrope=False)
    assert asked == [*((f"{kind}-0", "") for kind in KINDS), ("mixed-deep", "")]


def test_windows_are_read_until_the_distance_is_known_well(read: Read) -> None:
    found, asked = read(seldom, deep=False)
    assert asked[:5] == [("prose-0", ""), ("code-0", ""), ("maths-0", ""), ("prose-1", ""), ("code-1", "")]
    assert "mixed-long" not in dict(asked)
    assert sum(len(p.at) for p in found) == 100 * len(asked)
