"""Limits of memory that a worker has to live with, and checkpoints of true width to try it on."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.checkpoints import SHAPES, make


@contextmanager
def data_limit(size: int) -> Iterator[None]:
    """Let processes that are started meanwhile have so many bytes of memory of their own; files they map are none."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def wide(shape: str, sample: Path, folder: Path, *, layers: int = 1) -> Path:
    """Make a checkpoint as wide as a published model, with few layers. Its weights are holes: all zero, on no disk."""
    return make(SHAPES[shape], sample, folder, layers=layers, sparse=True)
