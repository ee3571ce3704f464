"""Read the package's file of weights: a GGUF file of version 3, little-endian.

A reader of its own, for the reference toolchain has none; it knows what this one file holds, and no more.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.records.artifacts import Json

Array = Any  # numpy is not installed where mypy runs

_MAGIC = b"GGUF\x03\x00\x00\x00"
_ALIGNED = 32  # bytes, to which tensors begin
_BLOCK = 32  # weights that share a scale
_STRING, _LIST = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A tensor in float32, and the step between neighbouring values of each weight: 0 where it was not rounded to 4
    bits. ``step`` has the same shape, or is a number."""

    weights: Array
    step: Array


class Packed:
    """The file: ``header`` has its values by name; tensors are unpacked when they are asked for."""

    def __init__(self, content: bytes) -> None:
        """Read the header. Raises ValueError for another kind of file, and for a type of tensor that is not read."""
        if not content.startswith(_MAGIC):
            raise ValueError("this is not the packed file of version 3 that was expected")
        self._content, self._at = content, len(_MAGIC)
        tensors, values = self._number("Q"), self._number("Q")
        self.header: dict[str, Json] = {self._string(): self._value(self._number("I")) for _ in range(values)}
        self._places = dict(self._place() for _ in range(tensors))
        self._data = math.ceil(self._at / _ALIGNED) * _ALIGNED

    def names(self) -> list[str]:
        """Return the names of all tensors, in the order of the file."""
        return list(self._places)

    def unpack(self, name: str) -> Unpacked:
        """Return a tensor: a vector, or a matrix of shape (outputs, inputs)."""
        shape, kind, offset = self._places[name]
        bytes_of_block, weights_of_block, unpacked = _KINDS[kind]
        blocks = math.prod(shape) // weights_of_block
        rows = np.frombuffer(self._content, np.uint8, blocks * bytes_of_block, self._data + offset)
        weights, step = unpacked(rows.reshape(blocks, bytes_of_block))
        return Unpacked(weights=weights.reshape(shape), step=np.broadcast_to(step, weights.shape).reshape(shape))

    def _place(self) -> tuple[str, tuple[tuple[int, ...], int, int]]:
        name = self._string()
        shape = tuple(reversed([self._number("Q") for _ in range(self._number("I"))]))
        kind, offset = self._number("I"), self._number("Q")
        if kind not in _KINDS:
            raise ValueError(f"{name} has a type that is not read: {kind}")
        return name, (shape, kind, offset)

    def _value(self, kind: int) -> Json:
        if kind == _STRING:
            return self._string()
        if kind == _LIST:
            of, length = self._number("I"), self._number("Q")
            return [self._value(of) for _ in range(length)]
        return self._number(_NUMBERS[kind])

    def _string(self) -> str:
        length = self._number("Q")
        self._at += length
        return self._content[self._at - length : self._at].decode()

    def _number(self, letter: str) -> Any:
        (value,) = struct.unpack_from(f"<{letter}", self._content, self._at)
        self._at += struct.calcsize(f"<{letter}")
        return value


def _plain(blocks: Array) -> tuple[Array, Array]:
    return blocks.view("<f4"), np.float32(0)


def _four_bits(blocks: Array) -> tuple[Array, Array]:
    """Scale, smallest value, and 16 bytes: the first half of the block in their lower halves, the second above it."""
    scale, smallest = blocks[:, :4].view("<f2").astype(np.float32).T[:, :, None]
    quants = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return quants * scale + smallest, np.abs(scale)


def _eight_bits(blocks: Array) -> tuple[Array, Array]:
    return blocks[:, 2:].view(np.int8) * blocks[:, :2].view("<f2").astype(np.float32), np.float32(0)


#: How tensors of a type are stored: bytes of a block, weights of a block, and what unpacks blocks.
_KINDS = {0: (4, 1, _plain), 3: (4 + _BLOCK // 2, _BLOCK, _four_bits), 8: (2 + _BLOCK, _BLOCK, _eight_bits)}
