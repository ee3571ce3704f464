"""Run phi-bot, and write what its process took into a file: ``python -m benchmarks.measured FILE ARGUMENT...``."""

import json
import resource
import sys
import time
from pathlib import Path

from bot.cli import main


def _peak_memory() -> int:
    """Return the most memory that this process had resident, in bytes.

    What ``getrusage`` says is at least the parent's before this process began: it is the last resort.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


if __name__ == "__main__":
    out = Path(sys.argv.pop(1))
    try:
        main()
    finally:
        out.write_text(json.dumps({"cpu_seconds": time.process_time(), "peak_memory": _peak_memory()}))
