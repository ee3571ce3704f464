"""Safetensors files of our own, with a header that is written here, and holes where their data is to be."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.source import sparse_files
from bot.source.listing import INDEX, SINGLE
from bot.source.safetensors_files import Tensor

_ALIGNED = 8  # bytes that a header's length is a multiple of, as safetensors' own writer has it


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """A file to write: its ``header``, with the eight bytes of its length, and its length in all.

    ``places`` are where the bytes of each tensor begin and end in the file.
    """

    name: str
    header: bytes
    size: int
    places: dict[str, tuple[int, int]]


def new_file(name: str, tensors: Mapping[str, Tensor]) -> NewFile:
    """Return a file that holds tensors, whose bytes are counted from 0, one after the other."""
    end = 0
    places: dict[str, tuple[int, int]] = {}
    for tensor, t in tensors.items():
        places[tensor] = (end, end + t.end)
        end += t.end
    entries = {n: {"dtype": t.dtype, "shape": t.shape, "data_offsets": places[n]} for n, t in tensors.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}} | entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    raw = len(text).to_bytes(8, "little") + text
    return NewFile(
        name=name,
        header=raw,
        size=len(raw) + end,
        places={n: (len(raw) + first, len(raw) + last) for n, (first, last) in places.items()},
    )


def new_files(tensors: Mapping[str, Tensor], owner: Mapping[str, str]) -> list[NewFile]:
    """Return the files that hold tensors, whose bytes are counted from 0; ``owner`` names the file of each."""
    files: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        files.setdefault(owner[name], {})[name] = tensor
    return [new_file(name, held) for name, held in sorted(files.items())]


def write_headers(files: Sequence[NewFile], out: Path) -> None:
    """Write files into a folder, with holes for their data, and an index where there are several."""
    for file in files:
        sparse_files.make(out / file.name, file.size)
        with (out / file.name).open("r+b") as opened:
            opened.write(file.header)
    if [file.name for file in files] != [SINGLE]:
        total = sum(last - first for file in files for first, last in file.places.values())
        owner = {tensor: file.name for file in files for tensor in file.places}
        index = {"metadata": {"total_size": total}, "weight_map": owner}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
