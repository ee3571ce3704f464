"""The weights of a source model: safetensors files, checked to the last byte of their headers.

A safetensors file is 8 bytes with the length N of the header (little-endian), N bytes of JSON, and the data. The header
maps each tensor's name to its dtype, its shape, and where its data begins and ends. Only headers are read here.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bot.errors import DamagedWeightsError, PicklesOnlyError
from bot.records import Json
from bot.source.names import check_name
from bot.source.strict import is_lfs_pointer, parse, read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

HEADER_BYTES = 25_000_000  # the limit of the Hub's own reader; Phi's largest is below 1 MB
HEADERS_BYTES = 100_000_000  # of all files of a model: reading that takes 20 seconds
_MOST_FILES = 1000  # the largest models have some 200
_INDEX_BYTES = 25_000_000
_DIMENSIONS = 16
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_BITS = (
    {"BOOL": 8, "I8": 8, "U8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64}
    | {"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64}
    | {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What a header says of a tensor: its type, its shape, and the bytes of the data it takes (end excluded)."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def check_listing(paths: Iterable[str], *, where: str) -> None:
    """Check, by the names of its files alone, that a model has all its weights as safetensors.

    Raises PicklesOnlyError or DamagedWeightsError.
    """
    names = {p for p in paths if "/" not in p}
    weights = sorted(n for n in names if n.endswith(".safetensors"))
    if len(weights) > _MOST_FILES:
        raise DamagedWeightsError(
            f"{where} has {len(weights)} files of weights", hint=f"Upload them in {_MOST_FILES} files at most."
        )
    if not weights:
        pickles = sorted(n for n in names if n.endswith(_PICKLES))
        if pickles:
            raise PicklesOnlyError(
                f"{where} has its weights only as pickles ({pickles[0]}), which are never loaded",
                hint="Ask its owner for safetensors, or convert it where running its code is no risk.",
            )
        raise DamagedWeightsError(f"{where} has no weights", hint=f"Expected {SINGLE}, or {INDEX} with its shards.")
    for name in weights:
        if match := re.fullmatch(r"(.+)-(\d{5})-of-(\d{5})\.safetensors", name):
            stem, _, count = match.groups()
            for number in range(1, int(count) + 1):
                shard = f"{stem}-{number:05d}-of-{count}.safetensors"
                if shard not in names:
                    raise _missing(shard, where)
    if SINGLE not in names and INDEX not in names:
        raise DamagedWeightsError(
            f"{where} has {weights[0]}, but neither {SINGLE} nor {INDEX}", hint="Download or save the model again."
        )


def weight_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the safetensors files that make up the model, in alphabetical order.

    Where there is an index, those that it names; otherwise the single file. Raises DamagedWeightsError when the index
    is malformed, and UnsafeFileNameError when it names a file that is not beside it.
    """
    if (folder / INDEX).is_file():
        return tuple(sorted(set(_index(folder).values())))
    return (SINGLE,)


def check_weights(folder: Path) -> dict[str, Tensor]:
    """Check every header of a model, and return its tensors by name.

    Raises PicklesOnlyError, or DamagedWeightsError naming the file at fault and what is wrong with it.
    """
    check_listing((p.name for p in folder.iterdir()), where=str(folder))
    tensors: dict[str, Tensor] = {}
    owner: dict[str, str] = {}
    total = 0
    for name in weight_files(folder):
        if not (folder / name).is_file():
            raise _missing(name, str(folder))
        found = read_header(folder / name)
        total = added(total, (folder / name).stat().st_size, found, name)
        if twice := sorted(found.keys() & tensors.keys()):
            raise _damaged(name, f"holds {twice[0][:80]!a}, which {owner[twice[0]]} holds too")
        tensors |= found
        owner |= dict.fromkeys(found, name)
    if (folder / INDEX).is_file():
        for tensor, name in _index(folder).items():
            if owner.get(tensor) != name:
                raise _damaged(name, f"lacks {tensor[:80]!a}, which the index says it holds")
    return tensors


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
        raise _damaged(name, f"has a header that is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(name, "has a header that is no JSON object")
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


def _index(folder: Path) -> dict[str, str]:
    """Return which file holds each tensor, as the index says."""
    try:
        weight_map = read_object(folder / INDEX, limit=_INDEX_BYTES).get("weight_map")
    except ValueError as error:
        raise _damaged(INDEX, str(error)) from error
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise _damaged(INDEX, "has no weight_map from tensors to files")
    for name in set(weight_map.values()):
        check_name(name, where=INDEX)
        if "/" in name or not name.endswith(".safetensors"):
            raise _damaged(INDEX, f"names {name[:80]!a}, which is no safetensors file beside it")
    return weight_map


def _missing(shard: str, where: str) -> DamagedWeightsError:
    return DamagedWeightsError(f"{where} lacks the shard {shard}", hint="Download or save the model again.")


def _damaged(name: str, what: str) -> DamagedWeightsError:
    return DamagedWeightsError(f"{name} {what}", hint="Download or save the model again.")
