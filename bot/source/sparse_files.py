"""Files with holes: of full length, and on the disk only where something was written. Used parts can be given back."""

import ctypes
import errno
import os
import sys
import uuid
from functools import cache
from pathlib import Path

from bot.records.artifacts import Release

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # of Linux, in <linux/falloc.h>


def make(path: Path, size: int) -> None:
    """Make a file that is one hole of ``size`` bytes."""
    with path.open("xb") as file:
        file.truncate(size)


def punch(descriptor: int, begin: int, end: int) -> None:
    """Give the disk of a file's bytes from ``begin`` up to ``end`` back; they read as zeros. Its length stays.

    Whole blocks are freed; bytes of the first and the last one that others may share stay. Raises OSError where the
    file system cannot do it.
    """
    block = os.fstat(descriptor).st_blksize
    first, last = -(-begin // block) * block, end // block * block
    if last > first and _fallocate()(descriptor, _KEEP_SIZE | _PUNCH_HOLE, first, last - first):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def allocated_bytes(path: Path) -> int:
    """Return the bytes of disk that a file takes; on Windows, its length."""
    found = path.stat()
    return int(getattr(found, "st_blocks", -(-found.st_size // 512))) * 512


def can_punch(folder: Path) -> bool:
    """Say whether files in a folder can have holes punched into them: on Linux, in all of its usual file systems."""
    if sys.platform != "linux":
        return False
    probe = folder / f".holes-{uuid.uuid4().hex}"
    try:
        with probe.open("xb") as file:
            size = 4 * os.fstat(file.fileno()).st_blksize
            file.write(b"\1" * size)
            file.flush()
            os.fsync(file.fileno())
            before = os.fstat(file.fileno()).st_blocks
            punch(file.fileno(), 0, size)
            return os.fstat(file.fileno()).st_blocks < before
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    finally:
        probe.unlink(missing_ok=True)


@cache
def _fallocate() -> "ctypes._NamedFuncPointer":
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


_MOST = 1_750_000_000  # bytes of disk that a streamed source takes: what is ahead, and Phi-4-mini's embeddings in use


_PART = 4  # … of a smaller model so much of its weights, for none of Phi's tensors is larger than a sixth of them


def room(weights: int) -> int:
    """Return the bytes of disk that weights of so many bytes take when they stream."""
    return min(weights // _PART, _MOST)


def streamed_bytes(release: Release) -> int:
    """Return how many bytes of the disk a release takes that streams: a part of its weights, and the rest twice.

    An adapter itself is kept whole.
    """
    adapter = release.own_weight_bytes if release.base else 0
    return room(release.weight_bytes) + 2 * release.bytes_beside_weights + adapter
