"""Whether processes still run."""

import subprocess
import time


def wait_for_end(pid: int) -> None:
    """Return when a process has ended; fail after half a minute."""
    deadline = time.monotonic() + 30
    while lives(pid):
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Say whether a process runs; one that only waits for its parent to notice its end does not."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()[:1] not in ("", "Z")
