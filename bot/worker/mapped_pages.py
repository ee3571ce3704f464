"""Give back the memory of a file that a library has mapped: its pages count as resident once they were looked at."""

import ctypes
import os
from pathlib import Path

_DONTNEED = 4  # MADV_DONTNEED on Linux
_READ_ONLY = ("r--s", "r--p")  # what nobody can have changed is read again when it is asked for


def release_pages(file: Path) -> None:
    """Give back the pages of all read-only mappings of a file in this process. Elsewhere than on Linux, do nothing."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    libc = ctypes.CDLL(None)
    name = os.path.realpath(file)
    for line in maps.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        place, rights, _, _, _, *path = line.split(maxsplit=5)
        if path == [name] and rights in _READ_ONLY:
            begin, end = (int(address, 16) for address in place.split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)
