"""What one process plays. A module of its own, for a process that is spawned does not find what is in ``__main__``."""

import os
import sys
from pathlib import Path

from tests.faults.bench import open_bench
from tests.faults.judge import Judge
from tests.faults.scenarios import Outcome, play, scenarios, spread

_SAY_EVERY = 50


def play_shard(folder: Path, shard: int, shards: int, count: int | None) -> Outcome:
    """Play every ``shards``-th scenario of all, or of a spread of ``count``, on the bench in a folder."""
    os.fsync = lambda handle: None  # type: ignore[assignment]  # as in the tests: nobody cuts the power here
    outcome = Outcome()
    with open_bench(folder) as bench:
        judge = Judge(bench.hub)
        every = scenarios(bench.calls("nothing-wrong"))
        todo = spread(every, count or len(every))[shard::shards]
        for number, scenario in enumerate(todo):
            play(scenario, f"fault-{number}", bench, judge, outcome)
            if (number + 1) % _SAY_EVERY == 0:
                print(f"{number + 1} of {len(todo)}", file=sys.stderr, flush=True)
    return outcome
