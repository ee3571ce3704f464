"""Limits of memory and disk that a worker has to live with, and checkpoints of true width to try it on."""

import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checkpoints import SHAPES, make
from bot.errors import DiskFullError
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from tests.worker.running import Built, prepare, run_build, small_disk


@contextmanager
def data_limit(size: int) -> Iterator[None]:
    """Let processes that are started meanwhile have so many bytes of memory of their own; files they map are none.

    This one keeps its own: a thread that finds no memory as it begins is waited for without end.
    """

    start: Any = subprocess.Popen.__init__

    def limited(self: Any, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs, preexec_fn=_limit(size))  # it makes one system call

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(subprocess.Popen, "__init__", limited)
        yield


def _limit(size: int) -> Callable[[], None]:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


@contextmanager
def on_full_disk(
    toolchain: Toolchain, source: Path, variants: Sequence[Variant], folder: Path, megabytes: float, *, stock: bool
) -> Iterator[Built]:
    """Build on a disk of its own, ``folder / "disk"``, which has to fill up, the log with it; give what was left."""
    with small_disk(folder / "disk", megabytes) as disk:
        built = prepare(disk / "job", variants)
        with pytest.raises(DiskFullError, match="No space left on device"):
            run_build(toolchain, source, variants, built, log=disk / "log", stock=stock)
        yield built


def wide(shape: str, sample: Path, folder: Path, *, layers: int = 1) -> Path:
    """Make a checkpoint as wide as a published model, with few layers. Its weights are holes: all zero, on no disk."""
    return make(SHAPES[shape], sample, folder, layers=layers, sparse=True)
