"""Write docs/negative-controls.md by putting every fault into a file of every format: ``python -m tests.controls``.

With ``samples`` or ``real`` behind it, one of its two tables is made, and the other one kept.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from bot.building.sample import make_sample
from bot.catalogue.families import REAL
from bot.formats.registry import all_formats
from bot.progress import Silent
from tests.controls.bench import Bench
from tests.controls.faults import FAULTS, FORMATS, Fault
from tests.controls.test_controls import PAGE

_HEAD = """\
# Negative controls

A check is worth as much as the faults that it finds. Here faults are put on purpose into a checkpoint before it is
converted, or into a converted file, and the file is verified like any other. Its record holds the hashes of the faulty
file, so only its content and its behaviour can give it away. `make controls` writes the table by trying every fault.
`make test` tries each of them again in one format, `make sweep` in all, and both fail if one is not found. Each cell
names the checks that failed; `n/a`: the fault makes no sense in that format. Each format is tried in one variant, the
first of its default ones, or of all where none is: PyTorch in `torch/w4a16`. A scale of `torch/w8a8` that is a
twentieth too large is found as well, by a test of its own.

## Small samples

{samples}

## A really trained model

The same in [SmolLM2-135M-Instruct](command-line.md#phi-bot-sample) in Phi-3's architecture, as far as it has what is
damaged. It has no LongRoPE, no biases, no experts and another tokenizer. `make sweep` tries these, too.

{real}

The checks are those of [verification](verification.md). Distances are the last line of defence, not the first: on a
small model some of these faults change the predictions no more than quantizing does. That is why weights, rotary
embeddings and constants are compared directly.
"""


def main(wanted: str | None) -> int:
    """Run the controls, write the page, and return 1 if a fault slipped through."""
    slipped, tables = 0, _tables()
    for name in tables if wanted is None else (wanted,):
        faults = [fault for fault in FAULTS if fault.real or name == "samples"]
        with tempfile.TemporaryDirectory() as folder:
            missed, tables[name] = _table(faults, Path(folder), real=name == "real")
        slipped += missed
        PAGE.write_text(_HEAD.format(**tables), encoding="utf-8")
    return int(slipped > 0)


def _tables() -> dict[str, str]:
    """Return the tables of the page as it is, by what they are of."""
    found = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: table.rstrip() for name, table in zip_longest(("samples", "real"), found, fillvalue="")}


def _table(faults: Sequence[Fault], folder: Path, *, real: bool) -> tuple[int, str]:
    """Return how many faults slipped through, and the table of what found the others."""
    bench, slipped, rows = Bench(folder / "bench"), 0, []
    for fault in faults:
        family = REAL.name if real else fault.family
        model = folder / "models" / family
        if not model.exists():
            make_sample(model, Silent(), family=family)
        cells = []
        for name in FORMATS:
            failed = bench.failed_checks(fault, model, name) if name in fault.formats else None
            slipped += failed is not None and fault.seen_in(name) not in failed
            names = dict.fromkeys(check.partition(",")[0] for check in failed or ())
            cells.append("n/a" if failed is None else ", ".join(names) or "NOTHING")
            print(f"{family}: {fault.name}, {name}: {cells[-1]}", file=sys.stderr, flush=True)
        rows.append(f"| {fault.name} | {' | '.join(cells)} |")
    columns = "".join(f" {all_formats()[name].title} |" for name in FORMATS)
    return slipped, "\n".join((f"| Fault |{columns}", f"|:------|{':---|' * len(FORMATS)}", *rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", nargs="?", choices=("samples", "real"), help="both by default")
    sys.exit(main(parser.parse_args().table))
