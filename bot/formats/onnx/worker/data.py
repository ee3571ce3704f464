"""Writing the data files of several graphs in step: what they take from one stored tensor, while it is there.

A file grows by stretches. A stretch is as much as comes of one tensor of the checkpoint (or of the few that a matrix
is joined from), with what is at hand anyway; all files whose next stretch is of that tensor share one read of it.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from bot.formats.onnx.worker.addresses import DTYPES, StoredRows
from bot.formats.onnx.worker.heap import keep_for_the_next_chunk
from bot.formats.onnx.worker.recipes import InitializerRecipe, Promised, Quantized, Solving
from bot.worker.calibrated import RoundedRows, SolverAtWork
from bot.worker.growing import GrowingFile
from bot.worker.mapped import Mapped
from bot.worker.order import stretches_in_order

_WINDOW = 64 << 20  # bytes of the checkpoint that are resident at once


@dataclass(frozen=True, kw_only=True)
class PlacedInitializer:
    """An initializer and where its bytes are in the data file."""

    tensor: Any
    begin: int
    end: int


def recipe_of(placed: PlacedInitializer) -> InitializerRecipe | None:
    """Return what makes an initializer, or None for one that is there."""
    return placed.tensor.recipe if isinstance(placed.tensor, Promised) else None


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """The data file of a graph: its initializers one after the other, and where it grows and ends up.

    What is quantized of a calibrated one is solved, where ``solver`` knows what it is multiplied with.
    """

    initializers: tuple[PlacedInitializer, ...]
    folder: Path
    target: Path
    solver: SolverAtWork | None = None

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.initializers[-1].end if self.initializers else 0


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """Initializers that follow each other and take nothing large but ``names``."""

    names: tuple[str, ...]
    initializers: tuple[PlacedInitializer, ...]


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Rows of a stored tensor, and what becomes of them: rows from ``first`` on of what ``recipe`` makes.

    ``solving`` makes it instead, if anything does.
    """

    rows: StoredRows
    first: int
    recipe: InitializerRecipe
    begins: tuple[int, ...]
    file: "_Open"
    solving: Solving | None


class _Open:
    """A data file while it grows. Several threads put bytes into the stretch that it is at."""

    def __init__(self, file: DataFile) -> None:
        plan: Any = [[p.tensor.name, p.tensor.dtype.name, p.begin, p.end] for p in file.initializers]
        self.target, self.solver = file.target, file.solver
        if self.solver is not None:
            plan = {"initializers": plan, "moments": self.solver.moments}
        self.growing = GrowingFile(file.folder, file.target.name, plan)
        if self.solver is not None:
            self.solver.done = self.growing.state or {}
        self.rest = list(_stretches([p for p in file.initializers if p.begin >= self.growing.start]))
        self._lock = threading.Lock()
        self._fd = self.growing.fileno()

    def solving(self, recipe: InitializerRecipe, name: str) -> Solving | None:
        """Return what solves rows of a stored matrix; None where they are made as in a plain file."""
        if self.solver is None or not isinstance(recipe, Quantized) or not recipe.levels.fit(recipe.matrix.columns):
            return None
        return Solving(quantized=recipe, solver=self.solver) if name in self.solver.known else None

    def mark(self, size: int) -> None:
        """Say that the stretch of so many bytes is whole, and what was solved in it."""
        state = None
        if self.solver is not None:
            for name in self.solver.begun:
                self.solver.finish(name)
            state = dict(self.solver.done)
        self.growing.wrote(size)
        self.growing.mark(state)

    def put(self, begin: int, data: Any) -> None:
        """Write bytes at a place that lies behind all that is whole."""
        view = memoryview(data).cast("B")
        with self._lock:  # not pwrite, which Windows has not
            os.lseek(self._fd, begin, os.SEEK_SET)
            while view:
                view = view[os.write(self._fd, view) :]


def write(
    files: Sequence[DataFile], mapped: Mapped, threads: int, progress: Callable[[int, int], None]
) -> dict[Path, str]:
    """Write all data files, going on where an earlier process was stopped; return their SHA-256, in hex.

    ``progress`` is told the bytes that are written and those of all files. Raises OSError when the disk fills up.
    """
    keep_for_the_next_chunk()
    total = sum(file.size for file in files)
    with ExitStack() as stack:
        opened = [_Open(file) for file in files]
        for one in opened:
            stack.enter_context(one.growing)
        # One thread of torch's to each of ours: chunks are too small to be shared out.
        pool = stack.enter_context(ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)))
        done = sum(one.growing.start for one in opened)
        steps = list(stretches_in_order([[stretch.names for stretch in one.rest] for one in opened]))
        stretches = [iter(one.rest) for one in opened]
        mapped.order([name for names, _ in steps for name in names])
        progress(done, total)
        for names, numbers in steps:
            now = [(opened[i], next(stretches[i])) for i in numbers]
            with mapped.held(*names):
                _fill(now, mapped, pool)
            for one, stretch in now:
                size = stretch.initializers[-1].end - stretch.initializers[0].begin
                one.mark(size)
                done += size
            progress(done, total)
        return {grown.target: grown.growing.finish(grown.target) for grown in opened}


def _stretches(initializers: Sequence[PlacedInitializer]) -> Iterator[_Stretch]:
    """Part what follows each other by the tensors that it needs. What needs none goes with what comes before."""
    names: tuple[str, ...] = ()
    marked = []
    for placed in initializers:
        if recipe := recipe_of(placed):
            names = recipe.matrix.names
        marked.append((names, placed))
    for names, group in groupby(marked, key=lambda pair: pair[0]):
        yield _Stretch(names=names, initializers=tuple(placed for _, placed in group))


def _fill(stretches: Sequence[tuple[_Open, _Stretch]], mapped: Mapped, pool: ThreadPoolExecutor) -> None:
    """Write stretches of several files that need the same tensors, a window of those at a time."""
    chunks: list[_Chunk] = []
    for file, stretch in stretches:
        for recipe, group in groupby(stretch.initializers, key=recipe_of):
            placed = list(group)
            if recipe is None:
                for ready in placed:
                    file.put(ready.begin, ready.tensor.tobytes())
            else:
                placed.sort(key=lambda p: p.tensor.part)
                chunks += _chunks(recipe, tuple(p.begin for p in placed), file)
    chunks.sort(key=lambda c: (c.rows.name, c.rows.begin))
    for window in _windows(chunks, mapped):
        _write_window(window, mapped, pool)
        name = window[0].rows.name
        row = mapped.stored[name].size // mapped.stored[name].shape[0]
        mapped.drop(name, window[0].rows.begin * row, max(chunk.rows.end for chunk in window) * row)


def _write_window(window: Sequence[_Chunk], mapped: Mapped, pool: ThreadPoolExecutor) -> None:
    """Write chunks, all of the same stored tensor and in the order of its rows."""
    for chunk in window:
        if chunk.solving is not None:
            chunk.solving.prepare(chunk.rows.name)
    for chunk, rounded in zip(window, pool.map(lambda chunk: _make(chunk, mapped), window), strict=True):
        if chunk.solving is not None and rounded is not None:
            chunk.solving.take(rounded)


def _chunks(recipe: InitializerRecipe, begins: tuple[int, ...], file: _Open) -> Iterator[_Chunk]:
    first = 0
    for part in recipe.matrix.parts:
        solving = file.solving(recipe, part.name)
        step = (solving or recipe).rows_at_once
        for begin in range(part.begin, part.end, step):
            end = min(begin + step, part.end)
            yield _Chunk(
                rows=StoredRows(name=part.name, begin=begin, end=end),
                first=first,
                recipe=recipe,
                begins=begins,
                file=file,
                solving=solving,
            )
            first += end - begin


def _windows(chunks: Sequence[_Chunk], mapped: Mapped) -> Iterator[list[_Chunk]]:
    """Part chunks, which are in the order of the rows that they read, where those pass another window's length."""

    def window(chunk: _Chunk) -> tuple[str, int]:
        stored = mapped.stored[chunk.rows.name]
        return chunk.rows.name, chunk.rows.begin * (stored.size // stored.shape[0]) // _WINDOW

    for _, group in groupby(chunks, key=window):
        yield list(group)


def _make(chunk: _Chunk, mapped: Mapped) -> RoundedRows | None:
    """Put what becomes of a chunk into its file; return it if it was solved."""
    matrix, stored = chunk.recipe.matrix, mapped.stored[chunk.rows.name]
    dtype = DTYPES[stored.dtype]
    row = matrix.columns * dtype.itemsize
    data = mapped.view(chunk.rows.name)[chunk.rows.begin * row : chunk.rows.end * row]
    values = torch.frombuffer(data, dtype=dtype).view(-1, matrix.columns).to(matrix.loaded)
    rounded = None
    if chunk.solving is None:
        arrays = chunk.recipe.made(values, chunk.first)
    else:
        arrays, rounded = chunk.solving.made(chunk.rows.name, values, chunk.first)
    for part, offset, made in arrays:
        chunk.file.put(chunk.begins[part] + offset, made)
    return rounded
