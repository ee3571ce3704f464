"""The weights of a GGUF artifact by the names of its source, dequantized by gguf-py."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bot.tasks import VerifyTask
from bot.workers.gguf.file import Header, Place, read_header, the_file
from bot.workers.tensors import Tensors
from bot.workers.weights import Stored, UnfaithfulError

Array = Any  # numpy is not installed where mypy runs

_AT_ONCE = 1 << 22  # weights that gguf-py works on: it holds several copies
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_FACTORS = ("rope_factors_long.weight", "rope_factors_short.weight")
_STACK = 3  # dimensions of a tensor that holds experts


def stored(task: VerifyTask) -> Iterator[Stored]:
    """Yield every weight of the file as llama.cpp computes with it, one tensor, or one expert of a stack, at a time.

    The converter renames Phi's tensors and stacks its experts; it moves no values around, so there is nothing to undo.
    LongRoPE's factors are left out: they come from the source's config, and rotary.py reads them.
    Raises UnfaithfulError for a tensor that the source has nothing to hold against.
    """
    file = the_file(Path(task.artifact))
    header = read_header(file)
    sources = _sources(header, Tensors(Path(task.source)))
    for name, place in header.tensors.items():
        if name in _FACTORS:
            continue
        if name not in sources:
            raise UnfaithfulError(f"the artifact has a tensor {name} that the source does not have")
        elif len(place.shape) == _STACK:
            yield from _experts(file, place, sources[name])
        else:
            yield Stored(sources=tuple(sources[name]), values=dequantized(file, place))


def _sources(header: Header, source: Tensors) -> dict[str, list[str]]:
    """Return, for each tensor of the file, the names that the source has for what is in it, experts in their order."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = header.metadata["general.architecture"]
    model = next(m for m, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(model, header.metadata[f"{architecture}.block_count"])
    found: dict[str, list[str]] = {}
    for name in sorted(source.names(), key=_natural):
        stacked = names.get_name(_EXPERT.sub(".experts.", name), try_suffixes=(".weight", ".bias"))
        if stacked is not None:
            found.setdefault(stacked, []).append(name)
    return found


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _experts(file: Path, place: Place, names: list[str]) -> Iterator[Stored]:
    if len(names) != place.shape[0]:
        raise UnfaithfulError(f"{names[0]}: {place.shape[0]} experts are stored, the source has {len(names)}")
    size = place.size // len(names)
    for i, name in enumerate(names):
        one = Place(shape=place.shape[1:], kind=place.kind, offset=place.offset + i * size, size=size)
        yield Stored(sources=(name,), values=dequantized(file, one))


def dequantized(file: Path, place: Place) -> Array:
    """Return a tensor as float32, some rows at a time."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    columns = place.shape[-1]
    values: Array = np.empty((int(np.prod(place.shape[:-1])), columns), dtype=np.float32)
    packed = np.memmap(file, np.uint8, "r", place.offset, (len(values), place.size // len(values)))
    step = max(_AT_ONCE // columns, 1)
    for i in range(0, len(values), step):
        values[i : i + step] = dequantize(np.asarray(packed[i : i + step]), GGMLQuantizationType(place.kind))
    return values.reshape(place.shape)
