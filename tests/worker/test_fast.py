"""Which path a build takes, and what is said of it."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bot import catalogue
from bot.records.artifacts import Json
from bot.records.tasks import BuildTask, Target
from bot.worker import fast
from bot.worker.fast import NotCovered
from bot.worker.harness import NeedsWholeSource, Reporter

TASK = BuildTask(source="source", model_name="Phi", targets=(), scratch="scratch", threads=1)


class Said(Reporter):
    """Keeps the events."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.events: list[dict[str, Json]] = []

    def event(self, **values: Json) -> None:
        self.events.append(values)


def taken(task: BuildTask, refusal: str | None = None) -> tuple[list[str], list[str]]:
    """The paths that were taken, and the notes."""
    paths: list[str] = []

    def quick() -> None:
        if refusal is not None:
            raise NotCovered(refusal)
        paths.append("fast")

    said = Said()
    fast.take(task, said, quick, lambda: paths.append("stock"))
    return paths, [e["message"] for e in said.events]


def test_the_fast_path_is_taken_without_a_word() -> None:
    assert taken(TASK) == (["fast"], [])


def test_a_task_that_it_does_not_cover_goes_the_tools_own_way_and_a_line_says_why() -> None:
    assert taken(TASK, "it has experts") == (["stock"], ["Stock path: it has experts"])


def test_who_asks_for_the_stock_path_gets_it() -> None:
    assert taken(replace(TASK, stock=True)) == (["stock"], ["Stock path: as asked for"])


def test_the_stock_path_does_not_read_a_source_that_streams() -> None:
    with pytest.raises(NeedsWholeSource, match="it has experts"):
        taken(replace(TASK, streamed=True), "it has experts")


def test_another_version_than_the_one_compared_with_is_refused() -> None:
    import numpy as np

    fast.require_versions({"numpy": np.__version__})
    with pytest.raises(NotCovered, match=f"numpy is {np.__version__}, and it was compared with 0.1"):
        fast.require_versions({"numpy": "0.1"})


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks files that are open")
def test_a_build_waits_for_the_end_of_one_that_was_killed_and_takes_its_time(tmp_path: Path) -> None:
    target = Target(variant=catalogue.all_variants()["gguf/q8_0"], out="", partial=str(tmp_path / "partial"))
    (tmp_path / "partial").mkdir()
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    lingering = subprocess.Popen([sys.executable, "-c", code, tmp_path / "partial" / ".lock"], stdout=subprocess.PIPE)
    assert lingering.stdout is not None
    lingering.stdout.readline()
    threading.Timer(0.5, lingering.kill).start()
    started = time.monotonic()
    assert taken(replace(TASK, targets=(target,))) == (["fast"], [])
    assert 0.3 < time.monotonic() - started < 30
    lingering.wait()
