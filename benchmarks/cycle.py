"""The cost of one cycle: ``python -m benchmarks.cycle`` looks after 500 sources and 2,000 publications.

Prints the requests by kind, for the Hub's usual pages and for the short ones that it may give for lists with much in
them, and fails where a cycle that finds nothing to do takes more than 30 requests.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.namespace import OWNER, Shape, fill
from bot.localhub import RunningHub, ServerLimits, serve

MOST_REQUESTS = 30
SHAPE = Shape(sources=500)
PAGES = (1000, 100)  # entries of a list in one answer: the Hub's usual ones, and those of lists with much in them
_USUAL = ServerLimits()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The cost of a command: its requests by kind, seconds, peak of resident bytes, and its output."""

    requests: Counter[str]
    seconds: float
    cpu_seconds: float
    peak_memory: int
    output: str


def configure(folder: Path, shape: Shape) -> Path:
    """Write a phi-bot.toml for such a namespace into a new folder; return the folder."""
    folder.mkdir()
    variants = json.dumps(list(shape.variants))
    (folder / "phi-bot.toml").write_text(
        f'[build]\nwork = "work"\nvariants = {variants}\n\n[publish]\nnamespace = "{OWNER}"\n'
    )
    return folder


def phi_bot(hub: RunningHub, folder: Path, *arguments: str, limits: ServerLimits = _USUAL) -> Measured:
    """Run phi-bot in a process of its own, in a folder with a phi-bot.toml; it must succeed.

    The Hub keeps to ``limits`` meanwhile, and has read its repos before, as one that has run for long.
    """
    hub.hub.limits = limits
    hub.hub.index.all("model")
    before, out, began = hub.requests.counts(), folder / "measured.json", time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measured", str(out), *arguments],
        cwd=folder,
        env=os.environ
        | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(folder / "hf-home"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"phi-bot {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Measured(
        requests=hub.requests.counts() - before,
        seconds=time.perf_counter() - began,
        output=done.stdout,
        **json.loads(out.read_text()),
    )


def main() -> int:
    """Measure, print, and return the exit code."""
    with tempfile.TemporaryDirectory() as temporary, serve(Path(temporary) / "hub") as hub:
        print(f"Making {SHAPE.sources} sources and {SHAPE.publications} publications", flush=True)
        fill(hub.hub, SHAPE)
        settings = configure(Path(temporary) / "settings", SHAPE)
        print("The first cycle, which reads every source once:", flush=True)
        _show(phi_bot(hub, settings, "run"))
        worst = max((_idle(hub, settings, page) for page in PAGES), key=lambda m: m.requests.total())
    print(f"requests={worst.requests.total()} seconds={worst.seconds:.1f}")
    return int(worst.requests.total() > MOST_REQUESTS)


def _idle(hub: RunningHub, settings: Path, page: int) -> Measured:
    print(f"A cycle with nothing to do, lists in pages of {page}:", flush=True)
    measured = phi_bot(hub, settings, "run", limits=ServerLimits(page=page))
    _show(measured)
    return measured


def _show(measured: Measured) -> None:
    for kind, count in measured.requests.most_common():
        print(f"  {count:5} {kind}")
    print(
        f"  {measured.requests.total():5} requests, {measured.seconds:.1f} s ({measured.cpu_seconds:.1f} s of a "
        f"processor), {measured.peak_memory / 1e6:.0f} MB, and at the end: {measured.output.splitlines()[-1]}"
    )


if __name__ == "__main__":
    sys.exit(main())
