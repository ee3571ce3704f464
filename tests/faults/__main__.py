"""Play every fault (`make faults`), or a spread of so many: ``python -m tests.faults [COUNT]``.

Ends with the line ``N faults, H half-published, D duplicated``.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bot.building.sample import make_sample
from bot.progress import Silent
from tests.faults.bench import make_bench
from tests.faults.shard import play_shard


def main() -> int:
    """Play faults on all cores, print what came of them, and return 1 if anything is wrong."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else None
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    shards = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="phi-bot-faults-") as folder:
        made = Path(folder) / "made"
        make_sample(Path(folder) / "sample", Silent())
        make_bench(made, Path(folder) / "sample")
        for number in range(shards):
            shutil.copytree(made, Path(folder) / str(number))
        with multiprocessing.get_context("spawn").Pool(shards) as pool:
            outcomes = pool.starmap(play_shard, [(Path(folder) / str(n), n, shards, count) for n in range(shards)])
    wrong = [line for outcome in outcomes for line in outcome.wrong]
    ends = sum((outcome.ends for outcome in outcomes), Counter[str]())
    print(*wrong, sep="\n")
    print("The first run of each ended:", ", ".join(f"{end}: {count}" for end, count in ends.most_common()))
    print(f"{sum(o.met for o in outcomes)} of the faults were met, {len(wrong)} things went wrong")
    half, twice = sum(o.half_published for o in outcomes), sum(o.duplicated for o in outcomes)
    print(f"{sum(o.faults for o in outcomes)} faults, {half} half-published, {twice} duplicated")
    return int(bool(wrong or half or twice))


if __name__ == "__main__":
    sys.exit(main())
