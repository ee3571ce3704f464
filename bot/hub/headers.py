"""The shape of a release on the Hub, from the headers of its weights: a few requests for the first bytes of files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.errors import DamagedWeightsError
from bot.hub.ranges import read_range
from bot.records.artifacts import Release, SourceFile
from bot.source import sparse_files
from bot.source.safetensors_files import HEADER_BYTES, Tensor, added, check_layout, parse_header
from bot.source.shape import Shape, shape_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_FIRST = 100_000  # bytes of the first request: nearly all headers are in them whole


@dataclass(frozen=True, kw_only=True)
class TensorRange:
    """Where a tensor's bytes are: from ``begin`` up to ``end`` of a file."""

    file: SourceFile
    begin: int
    end: int


def shape(api: "HfApi", release: Release) -> Shape:
    """Return the shape of a release that is not an adapter.

    Raises what ``tensors`` raises, and what ``bot.source.tensors`` raises for tensors that are not the model's.
    """
    return shape_of(tensors(api, release), release.config, where=release.label, layout=release.layout)


def tensors(api: "HfApi", release: Release) -> dict[str, Tensor]:
    """Return the tensors in a release's own files, from one or two requests for each file of weights.

    Raises DamagedWeightsError for a header that is malformed, too large, or not that of so long a file, and what
    huggingface_hub raises: see ``bot.hub.errors.hub_errors``.
    """
    read: dict[str, Tensor] = {}
    total = 0
    for file in release.files:
        if file.path.endswith(".safetensors"):
            _, found = _header(api, release, file)
            total = added(total, file.size, found, file.path)
            read |= found
    return read


def write_header(api: "HfApi", release: Release, file: SourceFile, path: Path) -> dict[str, TensorRange]:
    """Make a file as long as one on the Hub, with its header and a hole for its data; return where each tensor is.

    Raises what ``shape`` raises.
    """
    raw, tensors = _header(api, release, file)
    sparse_files.make(path, file.size)
    with path.open("r+b") as out:
        out.write(raw)
    return {n: TensorRange(file=file, begin=len(raw) + t.begin, end=len(raw) + t.end) for n, t in tensors.items()}


def _header(api: "HfApi", release: Release, file: SourceFile) -> tuple[bytes, dict[str, Tensor]]:
    """Return all bytes of a file before its data, and its tensors."""
    begin = _read(api, release, file, 0, min(_FIRST, file.size))
    length = int.from_bytes(begin[:8], "little")
    if file.size < 8 or 8 + min(length, HEADER_BYTES) > file.size:
        raise _damaged(file, f"is truncated in its header: it has {file.size} bytes")
    if length > HEADER_BYTES:
        raise _damaged(file, f"has a header of {length} bytes, more than {HEADER_BYTES}")
    raw = begin[8 : 8 + length]
    if len(raw) < length:
        raw += _read(api, release, file, len(begin), 8 + length)
    tensors = parse_header(raw, name=file.path)
    check_layout(tensors, file.size - 8 - length, file.path)
    return begin[:8] + raw, tensors


def _read(api: "HfApi", release: Release, file: SourceFile, begin: int, end: int) -> bytes:
    found = bytearray()
    read_range(api, release, file, begin, end, found.extend)
    return bytes(found)


def _damaged(file: SourceFile, what: str) -> DamagedWeightsError:
    return DamagedWeightsError(f"{file.path} {what}", hint="Its owner has to upload it again.")
