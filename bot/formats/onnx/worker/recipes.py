"""How an initializer's bytes come from rows of the checkpoint: cast, or quantized. Each knows its shapes beforehand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir
import torch

from bot.formats.onnx.worker import calibrated
from bot.formats.onnx.worker.addresses import StoredMatrix
from bot.formats.onnx.worker.calibrated import Levels
from bot.formats.onnx.worker.quantizers import Quantizer
from bot.worker.calibrated import RoundedRows, SolverAtWork
from bot.worker.solver import PART
from bot.worker.weights import TIED_OUTPUT

Tensor = Any  # neither torch nor onnx_ir is installed where mypy runs

_QUANTIZED_AT_ONCE = 1 << 19  # weights: with all that comes of them they fit the cache of a core
_CAST_AT_ONCE = 1 << 22  # weights
_TRANSPOSED_AT_ONCE = 48 << 20  # bytes: each piece is written column by column, unless it is all there is (8192 x 3072)


class InitializerRecipe(Protocol):
    """Makes the bytes of one initializer or several from a matrix, whose weights it first casts to ``dtype``."""

    @property
    def matrix(self) -> StoredMatrix:
        """Where the weights come from."""

    @property
    def dtype(self) -> Any:
        """A type of torch's."""

    @property
    def rows_at_once(self) -> int:
        """How many rows ``made`` takes at a time."""

    def made(self, rows: Tensor, first: int) -> Iterator[tuple[int, int, Any]]:
        """Yield (which initializer, offset in it, bytes) of a matrix's rows from ``first`` on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cast:
    """Weights in another type, as they lie or transposed."""

    matrix: StoredMatrix
    dtype: Any
    transposed: bool

    @property
    def rows_at_once(self) -> int:
        """Transposed rows are taken many at a time, for each of their columns is a write of its own."""
        weights = _TRANSPOSED_AT_ONCE // self.dtype.itemsize if self.transposed else _CAST_AT_ONCE
        return max(1, weights // self.matrix.columns)

    def made(self, rows: Tensor, first: int) -> Iterator[tuple[int, int, Any]]:
        """See Recipe."""
        size = self.dtype.itemsize
        if not self.transposed:
            yield 0, first * self.matrix.columns * size, _bytes(rows.to(self.dtype))
            return
        columns = _bytes(rows.to(self.dtype).T.contiguous()).reshape(self.matrix.columns, -1)
        if len(rows) == self.matrix.rows:
            yield 0, 0, columns
            return
        for column in range(self.matrix.columns):
            yield 0, (column * self.matrix.rows + first) * size, columns[column]


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """The results of a quantizer on weights that were first cast to ``dtype``, or of a solver on the same levels.

    ``beside_embedding`` says that this is the output matrix, and that the embedding is the same tensor, kept as it is.
    """

    matrix: StoredMatrix
    dtype: Any
    quantizer: Quantizer
    levels: Levels
    beside_embedding: bool = False

    @property
    def rows_at_once(self) -> int:
        """An even number: k_quant packs zero points in pairs."""
        return max(2, _QUANTIZED_AT_ONCE // self.matrix.columns & ~1)

    def made(self, rows: Tensor, first: int) -> Iterator[tuple[int, int, Any]]:
        """See Recipe."""
        return _placed(self.quantizer(rows.to(self.dtype)), first)

    def shapes(self) -> list[tuple[tuple[int, ...], Any]]:
        """Return the shape and the type of each array that the whole matrix gives: two rows tell them."""
        arrays = self.quantizer(torch.ones(2, self.matrix.columns, dtype=self.dtype))
        return [((self.matrix.rows, *a.shape[1:]), a.dtype) for a in arrays]


@dataclass(frozen=True, kw_only=True, eq=False)
class Solving:
    """What a solver makes of a matrix in the place of its quantizer, on the same levels."""

    quantized: Quantized
    solver: SolverAtWork

    @property
    def rows_at_once(self) -> int:
        """How many rows ``made`` takes at a time: an even number, too."""
        return max(2, PART // self.quantized.matrix.columns & ~1)

    def prepare(self, stored: str) -> None:
        """Have ready what ``made`` takes for rows of a stored matrix, before several threads ask for it."""
        self.solver.prepare(stored, self.quantized.matrix.columns)

    def made(self, stored: str, rows: Tensor, first: int) -> tuple[Iterator[tuple[int, int, Any]], RoundedRows]:
        """Solve rows of a stored matrix, in this thread. The first is what InitializerRecipe.made yields."""
        levels, scales = self.quantized.levels, torch.empty(0, dtype=self.quantized.dtype).numpy().dtype
        found, rounded = self.solver.solve(stored, rows.float().numpy(), levels.grid(scales))
        return _placed(calibrated.arrays(found, levels, scales), first), rounded

    def take(self, rows: RoundedRows) -> None:
        """Take the next rows of a matrix into account."""
        self.solver.take(rows, TIED_OUTPUT if self.quantized.beside_embedding else "")


class Promised(onnx_ir.LazyTensor):  # type: ignore[misc]
    """An initializer that is not made yet: number ``part`` of what ``recipe`` makes."""

    __slots__ = ("part", "recipe")

    def __init__(self, recipe: InitializerRecipe, part: int, dtype: Any, shape: Any, name: str) -> None:
        super().__init__(self._refuse, dtype=dtype, shape=onnx_ir.Shape(shape), name=name)
        self.recipe, self.part = recipe, part

    def _refuse(self) -> Any:
        raise RuntimeError(f"the weights of {self.name} were asked for while the graph was made")


def _placed(arrays: Sequence[Any], first: int) -> Iterator[tuple[int, int, Any]]:
    """Yield which array it is, the place of its bytes where its first row is row ``first``, and the bytes."""
    for part, array in enumerate(arrays):
        yield part, first * (array.nbytes // len(array)), np.ascontiguousarray(array)


def _bytes(tensor: Tensor) -> Any:
    return tensor.contiguous().view(torch.uint8).numpy()
