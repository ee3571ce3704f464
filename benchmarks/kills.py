"""Kill builds of a real size at random moments: each goes on from where its files were whole, and gives the same bytes.

``python -m benchmarks.kills MODEL_FOLDER`` writes benchmarks/results/kills.json.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from bot.cli.family_support import first_defaults
from bot.records.artifacts import Json, Report
from bot.source import sparse_files

RESULTS = Path(__file__).parent / "results" / "kills.json"
VARIANTS = tuple(v.name for v in first_defaults())
_KILLS = 10


def start(model: Path, variant: str, work: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start a build, in a group of processes of its own."""
    command = [sys.executable, "-m", "bot.cli", "build", str(model), "--variants", variant, "--work", str(work)]
    with out.open("wb") as file:
        return subprocess.Popen([*command, "--json", "--quiet"], stdout=file, start_new_session=True)


def whole(process: subprocess.Popen[bytes], out: Path) -> dict[str, str]:
    """Wait for a build, and return the digests of its files. Raises RuntimeError where it failed."""
    if process.wait() != 0:
        raise RuntimeError(f"the build ended with {process.returncode}")
    [artifact] = Report.from_json(json.loads(out.read_text(encoding="utf-8"))).artifacts
    return {f.path: f.sha256 for f in artifact.build.files}


def on_the_way(work: Path) -> int:
    """Return how many bytes of files on their way are on the disk."""
    return sum(sparse_files.allocated_bytes(part) for part in (work / "partial").glob("*/*.part"))


def measure(model: Path, variant: str, scratch: Path, moments: random.Random) -> Json:
    """Build once undisturbed, then once more with kills at random moments; return what was seen."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    out = scratch / "out.json"
    started = time.monotonic()
    wanted = whole(start(model, variant, scratch / "whole", out), out)
    undisturbed = time.monotonic() - started
    shutil.rmtree(scratch / "whole")
    kills: list[Json] = []
    work, ran = scratch / "killed", 0.0
    while True:
        process, began = start(model, variant, work, out), time.monotonic()
        if len(kills) == _KILLS:
            break
        try:
            process.wait(moments.uniform(0.1, 0.9) * undisturbed)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ran += time.monotonic() - began
            kills.append({"after_seconds": round(time.monotonic() - began, 1), "bytes_on_the_way": on_the_way(work)})
        else:  # it was done before its moment: another one, from nothing
            if whole(process, out) != wanted:
                raise RuntimeError(f"{variant}: other bytes after {len(kills)} kills")
            shutil.rmtree(work)
    found = whole(process, out)
    shutil.rmtree(scratch)
    return {
        "variant": variant,
        "undisturbed_seconds": round(undisturbed, 1),
        "last_run_seconds": round(time.monotonic() - began, 1),
        "kills": kills,
        "same_bytes": found == wanted,
    }


def main() -> None:
    """Measure the variants, and write each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--work", type=Path, default=Path(".kills"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for variant in options.variants.split(","):
        moments = random.Random(f"{options.seed} {variant}")  # noqa: S311 - no secret
        found = measure(options.model, variant, options.work, moments)
        print(json.dumps(found))
        results[variant] = found
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
