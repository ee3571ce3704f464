"""Whether a process of someone else's is there still."""

from pathlib import Path


def lives(pid: int) -> bool:
    """Say whether a process has not ended, reaped or not; it may end while it is asked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between opening and reading
        return False
