"""Tensors without values that know where their values lie: the builder arranges them, and cannot read them.

They are on torch's meta device, each at addresses of its own, counted in weights. Whatever a builder makes of one by
slicing and transposing still tells, by its offset and strides, which rows of which stored tensor it is.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bot.worker.fast import NotCovered
from bot.worker.mapped import Mapped

Tensor = Any  # torch is not installed where mypy runs

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}  #: by the names of safetensors


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """Rows ``begin`` to ``end`` of the stored matrix ``name``."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class StoredMatrix:
    """Rows one below the other, each of ``columns`` weights. ``loaded`` is the type that the builder loads them in."""

    parts: tuple[StoredRows, ...]
    columns: int
    loaded: Any

    @property
    def names(self) -> tuple[str, ...]:
        """The stored matrices that it takes rows of."""
        return tuple(dict.fromkeys(part.name for part in self.parts))

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(part.end - part.begin for part in self.parts)


class Addresses:
    """Hands out tensors without values, and tells what they are."""

    def __init__(self, mapped: Mapped, loaded: Any) -> None:
        """Begin anew. ``loaded`` is the type that transformers would load every weight in."""
        self._mapped, self._loaded = mapped, loaded
        self._begins: list[int] = []
        self._matrices: list[StoredMatrix] = []
        self._end = 0

    def tensor(self, name: str) -> Tensor:
        """Return a stored tensor: a matrix without values, and a vector with them, for builders look into those."""
        stored = self._mapped.stored[name]
        if len(stored.shape) == 2:
            rows, columns = stored.shape
            return self._place((StoredRows(name=name, begin=0, end=rows),), columns)
        with self._mapped.held(name):
            values = torch.frombuffer(bytearray(self._mapped.view(name)), dtype=DTYPES[stored.dtype])
        return values.view(stored.shape).to(self._loaded)

    def stack(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return matrices without values one below the other, as torch.cat would. Neighbours are joined again."""
        matrices = [self.matrix(t) for t in tensors]
        parts: list[StoredRows] = []
        for part in (part for matrix, _ in matrices for part in matrix.parts):
            if parts and (parts[-1].name, parts[-1].end) == (part.name, part.begin):
                part = StoredRows(name=part.name, begin=parts.pop().begin, end=part.end)  # noqa: PLW2901
            parts.append(part)
        if any(transposed for _, transposed in matrices) or len({m.columns for m, _ in matrices}) != 1:
            raise NotCovered("it joins weights in another way")
        return self._place(tuple(parts), matrices[0][0].columns)

    def matrix(self, tensor: Tensor) -> tuple[StoredMatrix, bool]:
        """Return what a tensor without values is, and whether it was transposed.

        Raises NotCovered for anything but a range of whole rows.
        """
        transposed = tensor.ndim == 2 and not tensor.is_contiguous()
        rows = tensor.T if transposed else tensor
        at = bisect_right(self._begins, tensor.storage_offset()) - 1
        if rows.ndim != 2 or not rows.is_contiguous() or at < 0 or rows.shape[1] != self._matrices[at].columns:
            raise NotCovered("it rearranges weights in another way")
        whole = self._matrices[at]
        first, rest = divmod(tensor.storage_offset() - self._begins[at], whole.columns)
        if rest or first + rows.shape[0] > whole.rows:
            raise NotCovered("it rearranges weights in another way")
        return _rows(whole, first, first + rows.shape[0]), transposed

    def _place(self, parts: tuple[StoredRows, ...], columns: int) -> Tensor:
        matrix = StoredMatrix(parts=parts, columns=columns, loaded=self._loaded)
        begin, self._end = self._end, self._end + matrix.rows * columns
        self._begins.append(begin)
        self._matrices.append(matrix)
        everything = torch.empty(self._end, dtype=self._loaded, device="meta")
        return everything[begin:].view(matrix.rows, columns)


def _rows(matrix: StoredMatrix, begin: int, end: int) -> StoredMatrix:
    """Return rows ``begin`` to ``end`` of a matrix."""
    parts, at = [], 0
    for part in matrix.parts:
        first, last = max(begin - at, 0), min(end - at, part.end - part.begin)
        if first < last:
            parts.append(StoredRows(name=part.name, begin=part.begin + first, end=part.begin + last))
        at += part.end - part.begin
    return StoredMatrix(parts=tuple(parts), columns=matrix.columns, loaded=matrix.loaded)
