"""One pass over the weights of a source, in which every output gets its rows.

Threads take some rows each, of a tensor or two at a time: memory does not grow with the model. They share nothing but
the outputs, in which every chunk of rows has its own place.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.formats.gguf.worker import ggml
from bot.formats.gguf.worker.calibrated import Matrix, matrix_of
from bot.formats.gguf.worker.kquants import Quantize
from bot.formats.gguf.worker.origin import Origin, computed
from bot.formats.gguf.worker.rows import Group, Output, converted, groups, make
from bot.worker.mapped import Mapped
from bot.worker.order import model_order

Array = Any  # numpy is not installed where mypy runs

_AT_ONCE = 1 << 20  # weights that a thread works on: 4 MB as float32, and as much at most beside
_BEGUN = 4  # tensors at once: many are small, and no thread is to wait for the end of one
_SOURCE_TYPES = {"F32": ggml.F32, "F16": ggml.F16, "BF16": ggml.BF16}


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    name: str
    origin: Origin
    shape: Sequence[int]
    outputs: Sequence[Output]
    groups: Sequence[Group]
    matrix: Matrix | None

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def rows_of_expert(self) -> int:
        return self.shape[-2] if len(self.shape) > 1 else 1

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yield the first row of each chunk, and the one after its last. None has rows of two experts."""
        step = max(1, _AT_ONCE // self.shape[-1])
        for begin in range(0, self.rows, self.rows_of_expert):
            for first in range(begin, begin + self.rows_of_expert, step):
                yield first, min(first + step, begin + self.rows_of_expert)


class Pass:
    """The pass. ``progress`` gets the bytes written so far, and all that there are to write."""

    def __init__(
        self, mapped: Mapped, outputs: Sequence[Output], quantize: Quantize, progress: Callable[[int, int], None]
    ) -> None:
        self._mapped, self._outputs, self._quantize, self._progress = mapped, outputs, quantize, progress
        self._lock = threading.Lock()
        self._total = sum(s.size for o in outputs for s in o.layout.slots.values())
        self._done = sum(
            slot.size
            for output in outputs
            for name, slot in output.layout.slots.items()
            if not output.lacks(name, output.base.origins[name])
        )

    def run(self, threads: int) -> None:
        """Write all tensors that are not whole yet. Raises OSError when the disk is full."""
        tensors = self._tensors()
        self._mapped.order([part for t in tensors for part in t.origin.parts])
        begun: deque[tuple[_Tensor, ExitStack, list[Future[None]]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                for tensor in tensors:
                    if len(begun) == _BEGUN:
                        _end(*begun.popleft())
                    begun.append((tensor, *self._begin(tensor, pool)))
                while begun:
                    _end(*begun.popleft())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tensors(self) -> list[_Tensor]:
        """Return what is to be written, in the order of the largest file, which can so be hashed as it grows.

        What streams is read in the order that workers share.
        """
        places = max((o.layout for o in self._outputs), key=lambda layout: layout.size).slots
        base = self._outputs[0].base
        found = []
        for name, info in base.tensors.items():
            origin = base.origins[name]
            outputs = [o for o in self._outputs if o.lacks(name, origin)]
            if outputs:
                solver = next((o.solver for o in outputs if o.solver is not None), None)
                matrix = None if solver is None else matrix_of(origin, solver.known)
                made = groups(name, outputs, matrix)
                found.append(
                    _Tensor(name=name, origin=origin, shape=info.shape, outputs=outputs, groups=made, matrix=matrix)
                )
        if self._mapped.streamed:
            return sorted(found, key=lambda t: model_order(t.origin.parts[0] if t.origin.parts else ""))
        return sorted(found, key=lambda t: places[t.name].offset)

    def _begin(self, tensor: _Tensor, pool: ThreadPoolExecutor) -> tuple[ExitStack, list[Future[None]]]:
        held = ExitStack()
        held.enter_context(self._mapped.held(*tensor.origin.parts))
        if tensor.matrix is not None:
            tensor.matrix.open(tensor.shape[-1])
            held.callback(tensor.matrix.close)
        if tensor.origin.copied:
            return held, [pool.submit(self._copy, tensor, first, last) for first, last in tensor.chunks()]
        return held, [pool.submit(self._compute, tensor)]

    def _copy(self, tensor: _Tensor, first: int, last: int) -> None:
        """Write rows that are the source's own."""
        rows_of_part = tensor.rows // len(tensor.origin.parts)
        index, row = divmod(first, rows_of_part)
        part = tensor.origin.parts[index]
        stored = self._mapped.stored[part]
        row_size = stored.size // rows_of_part
        begin, end = row * row_size, (row + last - first) * row_size
        kind = _SOURCE_TYPES[stored.dtype]
        rows = np.frombuffer(self._mapped.view(part)[begin:end], ggml.NUMPY[kind]).reshape(last - first, -1)
        rows = np.require(rows, requirements="A")  # a header of odd length leaves numbers where C may not read them
        for group in tensor.groups:
            self._make(tensor, group, converted(kind, rows, group), first)
        self._mapped.drop(part, begin, end)

    def _compute(self, tensor: _Tensor) -> None:
        """Write rows that the converter works out."""
        for group in tensor.groups:
            info = group.base.tensors[tensor.name]
            whole = np.ascontiguousarray(computed(info.tensor)).view(ggml.NUMPY[group.kind]).reshape(tensor.rows, -1)
            info.tensor = None  # it holds all that it was worked out from
            for first, last in tensor.chunks():
                self._make(tensor, group, whole[first:last], first)

    def _make(self, tensor: _Tensor, group: Group, rows: Array, first: int) -> None:
        written = make(tensor.name, group, rows, first, first // tensor.rows_of_expert, self._quantize)
        with self._lock:
            self._done += written
            self._progress(self._done, self._total)


def _end(tensor: _Tensor, held: ExitStack, work: Sequence[Future[None]]) -> None:
    with held:
        for future in work:
            future.result()
    for output in tensor.outputs:
        if output.refused is None:
            output.mark(tensor.name, tensor.matrix)
