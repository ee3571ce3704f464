"""What this processor is capable of."""

from functools import cache
from pathlib import Path


@cache
def flags() -> frozenset[str]:
    """Return the flags of this processor that Linux shows; of a Mac none, and none are asked for there."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    found = next((line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))), "")
    return frozenset(found.split())
