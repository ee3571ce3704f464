"""Merge an adapter into the tensors of its base, block of rows by block of rows, on the way from where these are.

A LoRA's product is summed in 64 bits and rounded to float32 once, so that it is the same however the rows are cut and
whatever sums it; the rest is float32, and what comes out is rounded once more, to the type of the base. A DoRA's rows
have the lengths that it stores. numpy is imported late: nothing else of the bot's own needs it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.errors import DamagedWeightsError, NotFiniteError
from bot.source.changes import WEIGHTS, Added, Change, Saved
from bot.source.safetensors_files import Tensor

if TYPE_CHECKING:
    import numpy as np

_BLOCK = 1 << 20  #: elements that are computed at once: some 30 MB with all that is between
_BYTES = {"BF16": 2, "F16": 2, "F32": 4}

Take = Callable[[bytes], None]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter's weights: its ``file`` on this machine, and the ``tensors`` in it by that file's header."""

    file: Path
    tensors: Mapping[str, Tensor]
    start: int  #: of the data in the file

    def rows(self, name: str, first: int = 0, count: int | None = None) -> "np.ndarray[Any, Any]":
        """Return rows of a tensor as float32, in its own shape.

        Raises NotFiniteError for NaN and infinity, and DamagedWeightsError for a file that became shorter.
        """
        import numpy as np

        tensor = self.tensors[name]
        rows = tensor.shape[0]
        each = (tensor.end - tensor.begin) // rows
        count = rows if count is None else count
        with self.file.open("rb") as opened:
            opened.seek(self.start + tensor.begin + first * each)
            data = opened.read(count * each)
        if len(data) != count * each:
            raise DamagedWeightsError(f"{self.file.name} became shorter", hint="Download or save the adapter again.")
        found = _decoded(data, tensor.dtype).reshape(count, *tensor.shape[1:])
        if not np.isfinite(found).all():
            raise NotFiniteError(
                f"{WEIGHTS}: {name[:120]!a} holds NaN or infinity", hint="Train the adapter anew, or save it again."
            )
        return found


def merge(
    adapter: Adapter, name: str, change: Change, base: Callable[[Take], None], take: Take, *, block: int = _BLOCK
) -> None:
    """Hand the bytes of the merged tensor ``name`` to ``take``, piece by piece.

    ``base`` hands over the base's bytes in pieces of any size; it is asked only where something of it is left. A
    ``block`` is the number of elements that are held at once, or one row. Raises NotFiniteError where numbers that come
    out are too large for the type of the base, and what reading the adapter raises.
    """
    width = 1
    for length in change.shape[1:]:
        width *= length
    each = width * _BYTES[change.dtype]
    count = max(1, block // width)
    run = _Run(adapter, name, change)
    if change.is_whole:
        for first in range(0, change.shape[0], count):
            take(run.rows(first, None, min(count, change.shape[0] - first)))
        return
    held, done = bytearray(), 0

    def feed(piece: bytes) -> None:
        nonlocal done
        held.extend(piece)
        while len(held) >= count * each:
            take(run.rows(done, bytes(held[: count * each]), count))
            del held[: count * each]
            done += count

    base(feed)
    left = len(held) // each
    if left:
        take(run.rows(done, bytes(held[: left * each]), left))
    if done + left != change.shape[0] or len(held) != left * each:
        raise DamagedWeightsError(f"{name[:120]!a} of the base did not come whole", hint="Run the same command again.")


class _Run:
    """One tensor on its way: what is added to it is read once."""

    def __init__(self, adapter: Adapter, name: str, change: Change) -> None:
        self._adapter, self._name, self._change = adapter, name, change
        self._factors = [self._read(added) for added in change.added]

    def rows(self, first: int, base: bytes | None, count: int) -> bytes:
        """Return merged rows from row ``first``; ``base`` are the bytes of the base's, which may be left out."""
        import numpy as np

        shape = (count, *self._change.shape[1:])
        found = np.zeros(shape, "<f4") if base is None else _decoded(base, self._change.dtype).reshape(shape).copy()
        for saved in self._change.saved:
            self._save(saved, found, first)
        for added, factors in zip(self._change.added, self._factors, strict=True):
            self._add(added, factors, found, first)
        data, fits = _encoded(found, self._change.dtype)
        if not fits:
            raise NotFiniteError(
                f"{self._name[:120]!a}: what comes of merging is NaN, or too large for {self._change.dtype}",
                hint="Are the adapter and the base whole, and was it trained on this base?",
            )
        return data

    def _read(self, added: Added) -> tuple[Any, Any, Any]:
        left: Any = self._adapter.rows(added.left)
        right: Any = self._adapter.rows(added.right).astype("<f8")
        if added.turned:
            left, right = left.T, right.T
        return left, right, self._adapter.rows(added.magnitude) if added.magnitude else None

    def _save(self, saved: Saved, found: Any, first: int) -> None:
        begin, end = _overlap(saved.rows.at, saved.rows.count, first, len(found))
        if begin < end:
            at = saved.rows.first + begin - saved.rows.at
            found[begin - first : end - first] = self._adapter.rows(saved.name, at, end - begin)

    def _add(self, added: Added, factors: tuple[Any, Any, Any], found: Any, first: int) -> None:
        import numpy as np

        left, right, magnitudes = factors
        begin, end = _overlap(added.rows.at, added.rows.count, first, len(found))
        if begin >= end:
            return
        own = slice(added.rows.first + begin - added.rows.at, added.rows.first + end - added.rows.at)
        rows = found[begin - first : end - first]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is looked at
            rows += ((left[own].astype("<f8") @ right) * added.scale).astype("<f4")
            if magnitudes is not None:
                lengths = np.sqrt(np.square(rows, dtype="<f8").sum(axis=1)).astype("<f4")
                rows *= (magnitudes[own] / lengths)[:, None]


def _overlap(at: int, count: int, first: int, rows: int) -> tuple[int, int]:
    return max(at, first), min(at + count, first + rows)


def _decoded(data: bytes, dtype: str) -> "np.ndarray[Any, Any]":
    import numpy as np

    found: np.ndarray[Any, Any]
    if dtype == "BF16":
        found = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    else:
        found = np.frombuffer(data, "<f2" if dtype == "F16" else "<f4").astype("<f4")
    return found


def _encoded(values: "np.ndarray[Any, Any]", dtype: str) -> tuple[bytes, bool]:
    """Return numbers in a type, each rounded to the nearest (of two, the even one), and whether all are finite."""
    import numpy as np

    if dtype == "BF16":
        bits: np.ndarray[Any, Any] = values.view("<u4")
        rounded = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype("<u2")
        fits = np.isfinite(values).all() and not ((rounded & 0x7F80) == 0x7F80).any()
        return rounded.tobytes(), bool(fits)
    with np.errstate(over="ignore"):
        stored = values.astype("<f2") if dtype == "F16" else values
    return stored.tobytes(), bool(np.isfinite(stored).all())
