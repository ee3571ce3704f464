"""Matrices of GGUF rounded for what they are multiplied with: the shared solver, on the levels that ggml searched.

The levels of ggml's types are nested: scales are codes themselves, of a block's own scale. So ggml searches them, with
an importance matrix of the same second moments, and the solver rounds again on what it found. A type whose levels are
of several weights at once stays as ggml made it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bot.formats.gguf.worker import ggml
from bot.formats.gguf.worker.blocks import LAYOUTS
from bot.formats.gguf.worker.imatrix import ImportanceMatrix
from bot.formats.gguf.worker.origin import Origin
from bot.worker.calibrated import RoundedRows, SolverAtWork
from bot.worker.moments import Moments
from bot.worker.solve_check import sample
from bot.worker.solver import Factor, Solved, improve

Array = Any  # numpy is not installed where mypy runs

_DATASET = "training.txt"  # of bot/texts; recipes.py names it for records
_CLOSE = 1e-5  # of a row's largest value: how near ggml comes to levels whose product and sum it may round once


class Matrix:
    """A matrix of the source that a tensor is. What is known of its inputs is held while it is worked on."""

    def __init__(self, name: str, moments: Moments) -> None:
        """Read nothing yet."""
        self.name, self._moments = name, moments
        self.factors: Sequence[Factor] = ()

    def open(self, columns: int) -> None:
        """Read what is known of so many inputs: this takes as long as rounding a thousand rows or so."""
        self.factors = self._moments.factors(self.name, columns)

    def close(self) -> None:
        """Hold it no longer."""
        self.factors = ()


def matrix_of(origin: Origin, moments: Moments) -> Matrix | None:
    """Return the one matrix of the source that a tensor is, if its inputs are known."""
    [name] = origin.parts if origin.copied and len(origin.parts) == 1 else [""]
    return Matrix(name, moments) if name in moments else None


def importance(moments: Moments, origins: Mapping[str, Origin]) -> ImportanceMatrix:
    """Return the mean squares of the inputs of each tensor, by its name in the file, as llama.cpp takes them."""
    known = {name: found for name, origin in origins.items() if (found := matrix_of(origin, moments)) is not None}
    return ImportanceMatrix(
        file=f"moments-{moments.sha256[:12]}",
        dataset=_DATASET,
        chunks=0,
        entries={name: moments.mean_squares(matrix.name) for name, matrix in known.items()},
    )


def improved(kind: int, packed: Array, rows: Array, matrix: Matrix) -> RoundedRows:
    """Round rows of float32 again that ggml has ``packed``, in place; return them as ggml reads them."""
    layout, columns = LAYOUTS[kind], rows.shape[1]
    given = layout.read(packed, columns)
    found = improve(rows, given, matrix.factors, layout.grid)
    layout.write(packed, found.codes)
    values = ggml.dequantized(kind, packed.reshape(-1), np.empty(rows.size, np.float32)).reshape(rows.shape)
    largest = np.abs(found.values).max(axis=1, keepdims=True)
    if not (np.abs(values - found.values) <= _CLOSE * largest).all():
        raise RuntimeError(f"{matrix.name}: ggml reads other values than it was rounded to")

    def plain(at: Array) -> Array:
        return Solved(codes=given.codes[at], scales=given.scales[at], offsets=given.offsets[at]).values

    return RoundedRows(matrix=matrix.name, values=values, sample=sample(rows, values, plain))


@dataclass
class InOrder:
    """Gives rows of a matrix on in their order, which come from several threads in any."""

    take: Callable[[RoundedRows], None]
    _next: int = 0
    _waiting: dict[int, RoundedRows] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, first: int, rows: RoundedRows) -> None:
        """Take the rows from the row ``first`` on."""
        with self._lock:
            self._waiting[first] = rows
            while (following := self._waiting.pop(self._next, None)) is not None:
                self.take(following)
                self._next += len(following.values)


def lacks(solver: SolverAtWork | None, origin: Origin, kind: int) -> bool:
    """Say whether a tensor of a type is one that the solver of a file rounds, and has not rounded yet."""
    if solver is None or kind not in LAYOUTS:
        return False
    matrix = matrix_of(origin, solver.known)
    return matrix is not None and matrix.name not in solver.done
