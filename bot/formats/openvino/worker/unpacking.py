"""Reading the weights of an OpenVINO model by numpy, in less time than its CPU plugin looks rows up."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from bot.worker import packed
from bot.worker.weights import rows_at_once

Array = Any  # numpy is not installed where mypy runs
Reader = Callable[[int, int], Array]  #: float32 of some entries of a first axis; the next ones come in its memory

_FLOATS = ("f16", "f32")
_BITS = {"u4": 4, "i4": 4, "u8": 8, "i8": 8}


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    """A constant of whole numbers. ``stored`` are its bytes, mapped; they belong to ``node``."""

    node: Any
    stored: Array
    shape: tuple[int, ...]
    bits: int
    signed: bool

    def entries(self, start: int, stop: int) -> Array:
        """Return entries of the first axis, one number a byte. The first of them has to begin with a byte."""
        size = prod(self.shape[1:])
        values = packed.codes(self.stored[start * size * self.bits // 8 : -(-stop * size * self.bits // 8)], self.bits)
        values = values[: (stop - start) * size]
        if self.signed:
            values = values.view(np.int8) if self.bits == 8 else (values ^ 8).view(np.int8) - np.int8(8)
        return values.reshape(-1, *self.shape[1:])


def reader(value: Any) -> Reader | None:
    """Return what reads entries of the first axis of a tensor, to its end; None where it is not stored as here.

    That is floats, or whole numbers of 4 or 8 bits less zero points, if there are any, times scales: all of them
    constants. No more entries can be read together than ``rows_at_once`` says.
    """
    node = _behind(value, "Convert", "Reshape")
    if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in _FLOATS:
        floats = node.data.reshape(tuple(value.get_shape()))
        return lambda start, stop: floats[start:stop].astype(np.float32)
    if node.get_type_name() != "Multiply":
        return None
    numbers, zeros = _behind(node.input_value(0)), None
    if numbers.get_type_name() == "Subtract":
        zeros = _numbers(numbers.input_value(1))
        if zeros is None:
            return None
        codes = _numbers(numbers.input_value(0))
    else:
        codes = _numbers(node.input_value(0))
    scales = _behind(node.input_value(1), "Convert")
    count, columns = value.get_shape()[0], prod(value.get_shape()[1:])
    if codes is None or scales.get_type_name() != "Constant" or columns * codes.bits % 8:
        return None
    if (codes.shape[0], prod(codes.shape)) != (count, count * columns):
        return None
    scale = np.broadcast_to(scales.data, (count, *scales.data.shape[1:]))
    zero = None if zeros is None else np.broadcast_to(zeros.entries(0, zeros.shape[0]), (count, *zeros.shape[1:]))
    room: Array = np.empty((min(rows_at_once(columns), count), *codes.shape[1:]), dtype=np.float32)

    def read(start: int, stop: int) -> Array:
        values = room[: min(stop, count) - start]
        for few in packed.few_rows(len(values), columns):
            part = slice(start + few.start, start + few.stop)
            values[few] = codes.entries(part.start, part.stop)
            if zero is not None:
                values[few] -= zero[part]
            values[few] *= scale[part].astype(np.float32)
        return values.reshape(len(values), *value.get_shape()[1:])

    return read


def _numbers(value: Any) -> _Numbers | None:
    """Return the whole numbers that a value is, converted to floats; None if it is not a constant of such."""
    node = _behind(value, "Convert")
    kind = node.get_element_type().get_type_name() if node.get_type_name() == "Constant" else ""
    if kind not in _BITS:
        return None
    return _Numbers(
        node=node,
        stored=node.data.reshape(-1).view(np.uint8),
        shape=tuple(node.get_shape()),
        bits=_BITS[kind],
        signed=kind.startswith("i"),
    )


def _behind(value: Any, *kinds: str) -> Any:
    """Return the operation that a value comes from, behind those of some kinds that leave numbers as they are."""
    node = value.get_node()
    while node.get_type_name() in kinds:
        node = node.input_value(0).get_node()
    return node
