"""The places and types of a checkpoint's tensors in its safetensors files."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from bot.records.artifacts import Json
from bot.worker.checkpoint import shards
from bot.worker.harness import SourceProblem

_BYTES = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor as its file holds it: ``dtype`` as safetensors name it, ``begin`` and ``size`` in bytes of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int


def tensors_of(source: Path) -> dict[str, StoredTensor]:
    """Return the tensors of the checkpoint in a folder by name, in the order of its files and of the data in each.

    Reads headers only. Raises SourceProblem, naming the file, for one that is not a safetensors file, or a shorter one.
    """
    return {name: stored for file in shards(source) for name, stored in _header(file).items()}


def require_float(name: str, stored: StoredTensor) -> None:
    """Raise SourceProblem for a tensor whose type is not a float of 2 or 4 bytes."""
    if stored.dtype not in _BYTES:
        raise SourceProblem(f"{stored.file.name}: {name} is stored as {stored.dtype}, not as {', '.join(_BYTES)}")


def _header(file: Path) -> dict[str, StoredTensor]:
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if size > file.stat().st_size - 8:
                raise ValueError("it is shorter than its header")
            header = json.loads(opened.read(size))
        header.pop("__metadata__", None)
        ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        return {name: _entry(file, 8 + size, entry) for name, entry in ordered}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceProblem(f"{file.name} is damaged: {error}") from error


def _entry(file: Path, data: int, entry: Json) -> StoredTensor:
    """Return where a tensor is. Raises ValueError, among others, for one that is not wholly inside the file."""
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if start < 0 or data + end > file.stat().st_size:
        raise ValueError("it is shorter than its tensors")
    if dtype in _BYTES and math.prod(shape) * _BYTES[dtype] != end - start:
        raise ValueError("a tensor has another size than its shape says")
    return StoredTensor(file=file, dtype=dtype, shape=shape, begin=data + start, size=end - start)
