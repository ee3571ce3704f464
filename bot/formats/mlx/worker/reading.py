"""Read the weights that MLX makes a model of, chunk by chunk of rows, a little before they are computed."""

import mmap
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.worker.mapped import Mapped

Array = Any  # neither mlx nor numpy is installed where mypy runs

CHUNK = 1 << 22  #: weights: 8 MB, so much that calls cost nothing beside the work
_NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}  # numpy has no bfloat16: here its bits


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of the model before it is quantized, and the tensors whose rows make it up, in that order."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows of a parameter from ``row`` on, as numpy's array. With the ``last`` ones it is complete."""

    parameter: Parameter
    row: int
    rows: Array
    last: bool


class ReadAhead:
    """Reads what is computed next, in threads of its own.

    MLX copies rows under Python's lock: while it waited for a page, nothing else of Python could go on.
    """

    def __init__(self, pool: ThreadPoolExecutor, pieces: int) -> None:
        self._pool, self._pieces = pool, pieces
        self._reading: list[Future[None]] = []

    def go_on(self, view: memoryview) -> None:
        """Return when what was begun is read, and begin mapped bytes, in as many pieces as there are threads."""
        for reading in self._reading:
            reading.result()
        size = max(-(-len(view) // self._pieces), mmap.PAGESIZE)
        self._reading = [self._pool.submit(_touch, view[first : first + size]) for first in range(0, len(view), size)]


def _touch(view: memoryview) -> None:
    np.frombuffer(view, np.uint8)[:: mmap.PAGESIZE].max()  # numpy holds no lock meanwhile


def chunks(parameters: Iterable[Parameter], mapped: Mapped, ahead: ReadAhead) -> Iterator[Chunk]:
    """Yield all rows of parameters. A vector is one row.

    Look at a chunk before the next is asked for: then its memory is given back.
    """
    for parameter in parameters:
        first = 0
        for source in parameter.sources:
            stored = mapped.stored[source]
            columns = stored.shape[-1]
            count = int(np.prod(stored.shape[:-1]))
            step = max(CHUNK // columns, 1)
            row_bytes = stored.size // count
            with mapped.held(source):
                whole = mapped.view(source)
                for begin in range(0, count, step):
                    end = min(begin + step, count)
                    ahead.go_on(whole[end * row_bytes : (end + step) * row_bytes])
                    rows = np.frombuffer(whole[begin * row_bytes : end * row_bytes], _NUMPY[stored.dtype])
                    yield Chunk(
                        parameter=parameter,
                        row=first + begin,
                        rows=rows.reshape(-1, columns),
                        last=end == count and source == parameter.sources[-1],
                    )
                    mapped.drop(source, begin * row_bytes, end * row_bytes)
            first += count


def as_mlx(rows: Array) -> Array:
    """Return a copy of rows as MLX's array."""
    import mlx.core as mx

    copied = mx.array(rows)
    return copied.view(mx.bfloat16) if copied.dtype == mx.uint16 else copied
