"""The file of a GGUF artifact, read without llama.cpp: its header, where its tensors lie, and whether it is whole.

gguf-py's own reader makes an object of every token: 10 s and 630 MB for a vocabulary of 200,064.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask

_VERSION = 3
_ALIGNMENT = 32  # of tensors, where the metadata name no other
_SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4


@dataclass(frozen=True, kw_only=True)
class TensorPlace:
    """The place of a tensor. ``shape`` is as numpy has it, rows first; ``kind`` is a number of GGMLQuantizationType."""

    shape: tuple[int, ...]
    kind: int
    offset: int  # in the file
    size: int  # bytes


@dataclass(frozen=True, kw_only=True)
class Header:
    """A GGUF file's metadata, less its lists, and its tensors by their names."""

    metadata: dict[str, Json]
    tensors: dict[str, TensorPlace]


def the_file(artifact: Path) -> Path:
    """Return the one file of an artifact. Raises ValueError for none, or for any other beside it."""
    found = sorted(p.relative_to(artifact) for p in artifact.rglob("*") if not p.is_dir())
    files = [artifact / p for p in found if p.suffix == ".gguf" and p.parent == Path()]
    if len(files) != 1:
        raise ValueError(f"there are {len(files)} GGUF files, where one is needed")
    if other := [p for p in found if artifact / p != files[0]]:
        raise ValueError(f"{other[0]} is not part of a GGUF file")
    return files[0]


def inspect(task: VerifyTask) -> str:
    """Say what the artifact's file is. Raises ValueError for a missing, damaged or unexpected one."""
    file = the_file(Path(task.artifact))
    header = read_header(file)
    return f"1 GGUF file of {len(header.tensors)} tensors, version {_VERSION}"


def read_header(file: Path) -> Header:
    """Read a file's header. Raises ValueError if it is malformed, or if the file ends elsewhere than it says."""
    with file.open("rb") as opened:
        try:
            header, end = _header(opened)
        except (struct.error, ValueError, KeyError, OverflowError, MemoryError) as error:
            raise ValueError(f"{file.name} is damaged: its header cannot be read ({error})") from error
    if (size := file.stat().st_size) != end:
        what = "is cut short" if size < end else "goes on behind its last tensor"
        raise ValueError(f"{file.name} {what}: it has {size} bytes, by its header {end}")
    return header


def _header(file: BinaryIO) -> tuple[Header, int]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if file.read(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    if (version := _number(file, "<I")) != _VERSION:
        raise ValueError(f"it is of version {version}, not {_VERSION}")
    tensor_count, pair_count = _number(file, "<Q"), _number(file, "<Q")
    metadata = {_string(file): _value(file, _number(file, "<I")) for _ in range(pair_count)}
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    listed = {}
    for _ in range(tensor_count):
        name, dimensions = _string(file), _number(file, "<I")
        if dimensions > _MOST_DIMENSIONS or name in listed:
            raise ValueError(f"tensor {name!r} has {dimensions} dimensions, or is named twice")
        shape = tuple(reversed([_number(file, "<Q") for _ in range(dimensions)]))
        listed[name] = shape, _number(file, "<I"), _number(file, "<Q")
    begin = end = _aligned(file.tell(), alignment)
    tensors = {}
    for name, (shape, kind, offset) in listed.items():
        weights, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if not shape or shape[-1] % weights:
            raise ValueError(f"tensor {name!r} of shape {list(shape)} does not divide into blocks of {weights}")
        tensors[name] = TensorPlace(
            shape=shape, kind=kind, offset=begin + offset, size=math.prod(shape) // weights * size
        )
        end = max(end, _aligned(begin + offset + tensors[name].size, alignment))
    return Header(metadata=metadata, tensors=tensors), end


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _number(file: BinaryIO, form: str) -> Json:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _string(file: BinaryIO) -> str:
    size = _number(file, "<Q")
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends within a text")
    return data.decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Json:
    """Read a value of the metadata; of a list, only as much as it takes to know where it ends."""
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _number(file, _SCALARS[kind])
    item, count = _number(file, "<I"), _number(file, "<Q")
    if item == _STRING:
        for _ in range(count):
            file.seek(_number(file, "<Q"), 1)
    else:
        file.seek(count * struct.calcsize(_SCALARS[item]), 1)
    return None
