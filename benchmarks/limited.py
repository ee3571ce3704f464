"""Commands that may have only so much memory, with all that they start: as root, on Linux."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# https://docs.kernel.org/admin-guide/cgroup-v1/memory.html and …/cgroup-v2.html
_FIRST, _SECOND = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@contextmanager
def limited_memory(size: int | None) -> Iterator[list[str]]:
    """Yield the beginning of a command that may have so many bytes of memory, or all that there is."""
    if size is None:
        yield []
        return
    first = (_FIRST / "memory.limit_in_bytes").exists()
    group = (_FIRST if first else _SECOND) / f"phi-bot-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(size))
        yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
    finally:
        group.rmdir()
