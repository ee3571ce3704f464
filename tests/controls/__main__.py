"""Write docs/negative-controls.md by putting every fault into a file of every format: ``python -m tests.controls``."""

import sys
import tempfile
from pathlib import Path

from bot.building.sample import make_sample
from bot.formats.registry import all_formats
from bot.progress import Silent
from tests.controls.bench import Bench
from tests.controls.faults import FAULTS, FORMATS
from tests.controls.test_controls import PAGE

_HEAD = """\
# Negative controls

A check is worth as much as the faults that it finds. Here faults are put on purpose into a checkpoint before it is
converted, or into a converted file, and the file is verified like any other. Its record holds the hashes of the faulty
file, so only its content and its behaviour can give it away. `make controls` writes the table by trying every fault.
`make test` tries each of them again in one format, `make sweep` in all, and both fail if one is not found. Each cell
names the checks that failed; `n/a`: the fault makes no sense in that format.

| Fault |{columns}
|:------|{rules}
{rows}

The checks are those of [verification](verification.md). Distances are the last line of defence, not the first: on a
small model some of these faults change the predictions no more than quantizing does. That is why weights, rotary
embeddings and constants are compared directly.
"""


def main() -> int:
    """Run every control, write the page, and return 1 if a fault slipped through."""
    slipped, rows = 0, []
    with tempfile.TemporaryDirectory() as folder:
        bench, samples = Bench(Path(folder) / "bench"), Path(folder) / "samples"
        for fault in FAULTS:
            sample = samples / fault.family
            if not sample.exists():
                make_sample(sample, Silent(), family=fault.family)
            cells = []
            for name in FORMATS:
                failed = bench.failed_checks(fault, sample, name) if name in fault.formats else None
                slipped += failed is not None and fault.seen_in(name) not in failed
                names = dict.fromkeys(check.partition(",")[0] for check in failed or ())
                cells.append("n/a" if failed is None else ", ".join(names) or "NOTHING")
                print(f"{fault.name}, {name}: {cells[-1]}", file=sys.stderr, flush=True)
            rows.append(f"| {fault.name} | {' | '.join(cells)} |")
    columns = "".join(f" {all_formats()[name].title} |" for name in FORMATS)
    rules = "".join(":---|" for _ in FORMATS)
    PAGE.write_text(_HEAD.format(columns=columns, rules=rules, rows="\n".join(rows)), encoding="utf-8")
    return int(slipped > 0)


if __name__ == "__main__":
    sys.exit(main())
