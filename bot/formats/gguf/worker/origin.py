"""Where the weights of a tensor come from, as the converter's lazy tensors have it.

The converter builds an expression for each tensor, and works it out as it writes: a tensor of Phi-4-mini's vocabulary
takes 1.2 GB as stored, and 3.7 GB more while it is widened and narrowed again. Nearly all expressions of Phi's are the
stored rows and no more, or experts stacked; those are done row by row. Any other is left to the converter, as a whole.
"""

# ruff: noqa: SLF001 - an expression of the converter has no public face

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bot.worker.fast import NotCovered
from bot.worker.stored import StoredTensor

Array = Any  # numpy is not installed where mypy runs


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The tensors of the source that one is made of. ``copied``: its rows are theirs, one tensor after the other."""

    parts: tuple[str, ...]
    copied: bool


def origins(writer: Any, stored: Mapping[str, StoredTensor]) -> dict[str, Origin]:
    """Return the origin of each tensor that the converter would write, by its name in the GGUF file.

    Raises NotCovered for an expression that reads something else than the checkpoint's files.
    """
    names = {(s.file, s.begin): name for name, s in stored.items()}
    return {name: _origin(tensor.tensor, tensor.shape, names, stored) for name, tensor in writer.tensors[0].items()}


def computed(tensor: Any) -> Array:
    """Return all of a tensor, worked out by the converter, in the type in which it writes it."""
    from gguf import LazyNumpyTensor

    return LazyNumpyTensor.to_eager(tensor)


def _origin(tensor: Any, shape: Any, names: Mapping[Any, str], stored: Mapping[str, StoredTensor]) -> Origin:
    found = _copied(tensor)
    if found is not None:
        parts = tuple(names[_place(p)] for p in found)
        rows = {stored[p].shape for p in parts}
        if rows == {tuple(shape)} or (len(rows) == 1 and (len(parts), *rows.pop()) == tuple(shape)):
            return Origin(parts=parts, copied=True)
    places = dict.fromkeys(_place(leaf) for leaf in _leaves(tensor))
    if not places.keys() <= names.keys():
        raise NotCovered("the converter reads a tensor from elsewhere than the checkpoint")
    return Origin(parts=tuple(names[p] for p in places), copied=False)


def _place(leaf: Any) -> Any:
    return leaf.data_range.filename, leaf.data_range.offset


def _copied(tensor: Any) -> list[Any] | None:
    """Return the stored tensors that an expression only widens, stacks and narrows, or None for any other."""
    import torch
    from conversion.base import LazyTorchTensor
    from gguf import LazyNumpyTensor

    for _ in range(2):  # narrowed to the type of the file, after it was handed from torch to numpy
        if not isinstance(tensor, LazyNumpyTensor):
            return None
        tensor = tensor._args[0]
    if not isinstance(tensor, LazyTorchTensor):
        return None
    stacked = tensor._func is torch.stack and tensor._kwargs == {"dim": 0}
    parts = [_widened(t) for t in (tensor._args[0] if stacked else (tensor,))]
    return None if None in parts else parts


def _widened(tensor: Any) -> Any:
    """Return the stored tensor that an expression is, or widens to float32, or None for any other."""
    import torch
    from conversion.base import LazyTorchTensor
    from gguf.utility import LocalTensor

    match tensor._args:
        case (LocalTensor() as leaf,):
            return leaf
        case (LazyTorchTensor() as inner, torch.float32) if inner.shape == tensor.shape:
            return _widened(inner)
    return None


def _leaves(expression: Any) -> Iterator[Any]:
    """Yield the stored tensors that an expression reads."""
    from gguf import LazyBase
    from gguf.utility import LocalTensor

    if isinstance(expression, LocalTensor):
        yield expression
    elif isinstance(expression, LazyBase):
        yield from _leaves(expression._args)
    elif isinstance(expression, (list, tuple)):
        for item in expression:
            yield from _leaves(item)
