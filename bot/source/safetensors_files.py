"""The weights of a source model: safetensors files, checked to the last byte of their headers.

A safetensors file is 8 bytes with the length N of the header (little-endian), N bytes of JSON, and the data. The header
maps each tensor's name to its dtype, its shape, and where its data begins and ends. Only headers are read here.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from bot.errors import DamagedWeightsError
from bot.records.artifacts import Json
from bot.source.listing import INDEX, INDEX_BYTES, SINGLE, list_folder, missing, named_by, weight_map
from bot.source.strict import is_lfs_pointer, parse, read_object

HEADER_BYTES = 25_000_000  # the limit of the Hub's own reader; Phi's largest is below 1 MB
HEADERS_BYTES = 100_000_000  # of all files of a model: reading that takes 20 seconds
_DIMENSIONS = 16
_BITS = (
    {"BOOL": 8, "I8": 8, "U8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64}
    | {"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64}
    | {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor according to a header: its type, its shape, and the bytes of the data it takes (end excluded)."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def check_weights(folder: Path) -> dict[str, Tensor]:
    """Check every header of a model, and return its tensors by name. Raises what ``read_weights`` raises."""
    return read_weights(folder)[0]


def read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Check every header of a model. Return its tensors by name, and the name of the file that each is in.

    Raises what ``list_folder`` raises, and DamagedWeightsError naming the file at fault and what is wrong with it.
    """
    listed = list_folder(folder).weights
    tensors: dict[str, Tensor] = {}
    owner: dict[str, str] = {}
    total = 0
    for name in listed:
        if not (folder / name).is_file():
            raise missing(name, str(folder))
        found = read_header(folder / name)
        total = added(total, (folder / name).stat().st_size, found, name)
        if twice := sorted(found.keys() & tensors.keys()):
            raise _damaged(name, f"holds {twice[0][:80]!a}, which {owner[twice[0]]} holds too")
        tensors |= found
        owner |= dict.fromkeys(found, name)
    if listed != (SINGLE,):
        _check_index(folder, listed, owner)
    return tensors, owner


def _check_index(folder: Path, listed: tuple[str, ...], owner: dict[str, str]) -> None:
    """Raise DamagedWeightsError unless the index names these shards, and each for tensors that it holds."""
    index = weight_map(lambda name: read_object(folder / name, limit=INDEX_BYTES))
    named = named_by(index, (p.name for p in folder.iterdir()), where=str(folder))
    if others := sorted(set(listed) - set(named)):
        raise _damaged(INDEX, f"does not name {others[0]}, a shard of the same model")
    for tensor, name in index.items():
        if owner.get(tensor) != name:
            raise _damaged(name, f"lacks {tensor[:80]!a}, which the index says it holds")


def parameters(folder: Path) -> int:
    """Return the number of a model's parameters as they are stored: tied weights count once."""
    return sum(math.prod(t.shape) for t in check_weights(folder).values())


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one safetensors file by name.

    Raises DamagedWeightsError when the header is malformed or the file is not exactly as long as it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if is_lfs_pointer(prefix + file.read(16)):
            raise DamagedWeightsError(
                f"{path.name} is a Git LFS pointer, not the file itself", hint="Run `git lfs pull` in the folder."
            )
        if size < 8 or 8 + min(length, HEADER_BYTES) > size:
            raise _damaged(path.name, f"is truncated in its header: it has {size} bytes")
        if length > HEADER_BYTES:
            raise _damaged(path.name, f"has a header of {length} bytes, more than {HEADER_BYTES}")
        file.seek(8)
        raw = file.read(length)
    tensors = parse_header(raw, name=path.name)
    check_layout(tensors, size - 8 - length, path.name)
    return tensors


def added(total: int, size: int, tensors: dict[str, Tensor], name: str) -> int:
    """Return the bytes of a model's headers with those of one more file, of ``size`` bytes in all.

    Raises DamagedWeightsError where they are more than any model has: a few bytes of a shard can claim a lot of work.
    """
    total += size - 8 - max((t.end for t in tensors.values()), default=0)
    if total > HEADERS_BYTES:
        raise _damaged(name, f"is one of files with headers of more than {HEADERS_BYTES} bytes together")
    return total


def parse_header(raw: bytes, *, name: str) -> dict[str, Tensor]:
    """Parse the JSON of a header. Raises DamagedWeightsError, naming the file, for anything malformed."""
    try:
        header = parse(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"has a header that is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(name, "has a header that is not a JSON object")
    header.pop("__metadata__", None)
    return {tensor: _tensor(tensor, entry, name) for tensor, entry in header.items()}


def _tensor(tensor: str, entry: Json, name: str) -> Tensor:
    what = ascii(tensor[:80])
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise _damaged(name, f"has no dtype, shape and data_offsets for {what}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _damaged(name, f"has an unknown dtype for {what}: {ascii(dtype)[:40]}")
    if not _are_sizes(shape) or len(shape) > _DIMENSIONS:
        raise _damaged(name, f"has a malformed shape for {what}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(name, f"has malformed offsets for {what}")
    if math.prod(shape) * _BITS[dtype] != (offsets[1] - offsets[0]) * 8:
        raise _damaged(name, f"has {offsets[1] - offsets[0]} bytes for {what}, not what its {dtype} shape takes")
    return Tensor(dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])


def _are_sizes(value: Json) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in value)


def check_layout(tensors: dict[str, Tensor], data_bytes: int, name: str) -> None:
    """Tensors must follow one another without a gap and fill the data: then every byte has one meaning."""
    expected = 0
    for tensor, t in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if t.begin != expected:
            raise _damaged(name, f"has a gap or an overlap before {tensor[:80]!a}")
        expected = t.end
    if data_bytes < expected:
        raise _damaged(name, f"is truncated: it has {data_bytes} bytes of data, its header says {expected}")
    if data_bytes > expected:
        raise _damaged(name, f"has {data_bytes - expected} bytes after its last tensor")


def _damaged(name: str, what: str) -> DamagedWeightsError:
    return DamagedWeightsError(f"{name} {what}", hint="Download or save the model again.")
