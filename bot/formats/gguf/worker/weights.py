"""The weights of a GGUF artifact by the names of its source, dequantized by ggml."""

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.gguf.worker import ggml
from bot.formats.gguf.worker.file import Header, TensorPlace, read_header, the_file
from bot.records.tasks import VerifyTask
from bot.worker.order import model_order
from bot.worker.rounding import Arithmetic, Rounding, bfloat16, eight_bits, float16
from bot.worker.tensors import Tensors
from bot.worker.weights import ArtifactWeight, UnfaithfulError, rows_at_once

Array = Any  # numpy is not installed where mypy runs

_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_FACTORS = ("rope_factors_long.weight", "rope_factors_short.weight")
_STACK = 3  # dimensions of a tensor that holds experts

# How many neighbours share their levels, of the types whose quantizers end by giving each weight the nearest one. The
# smaller ones have patterns of several weights; those of old with an offset are in no recipe.
_NEAREST = {
    **dict.fromkeys(("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0", "IQ4_NL", "IQ4_XS", "Q5_K", "Q4_K"), 32),
    **dict.fromkeys(("Q6_K", "Q3_K", "Q2_K"), 16),
}

# What llama.cpp's products on a CPU make of the states that a matrix is multiplied with (ggml's vec_dot_type): a type
# that is packed as densely as the matrix. Super-blocks of 256 weights get blocks of 256 states.
_BY_32 = ("Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "IQ4_NL")
_ROUNDINGS: dict[str, Rounding | None] = {
    "F32": None,
    "F16": float16,
    "BF16": bfloat16,
    **dict.fromkeys(_BY_32, eight_bits(32, half_scales=True)),
}
_BY_256 = eight_bits(256)


def arithmetic(_: VerifyTask) -> Arithmetic:
    """Return what llama.cpp rounds on a CPU by its defaults: states before products, and the cache to float16.

    It computes PhiMoE by its graph of Phi-3 (llama.cpp's src/models/phi3.cpp).
    """
    return Arithmetic(cache=float16, products=True, phimoe_as_phi3=True)


def stored(task: VerifyTask) -> Iterator[ArtifactWeight]:
    """Yield every weight of the file as llama.cpp computes with it, one tensor, or one expert of a stack, at a time.

    The converter renames Phi's tensors and stacks its experts; it moves no values around, so there is nothing to undo.
    LongRoPE's factors are left out: they come from the source's config, and rotary.py reads them.
    Raises UnfaithfulError for a tensor that the source has nothing to hold against.
    """
    file = the_file(Path(task.artifact))
    header = read_header(file)
    sources = _sources(header, Tensors(Path(task.source)))
    kept = {name: place for name, place in header.tensors.items() if name not in _FACTORS}
    if unknown := [name for name in kept if name not in sources]:
        raise UnfaithfulError(f"the artifact has a tensor {unknown[0]} that the source does not have")
    for name, place in sorted(kept.items(), key=lambda item: model_order(sources[item[0]][0])):
        if len(place.shape) == _STACK:
            yield from _experts(file, place, sources[name])
        else:
            yield _weight(file, place, tuple(sources[name]))


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


def _experts(file: Path, place: TensorPlace, names: list[str]) -> Iterator[ArtifactWeight]:
    if len(names) != place.shape[0]:
        raise UnfaithfulError(f"{names[0]}: {place.shape[0]} experts are stored, the source has {len(names)}")
    size = place.size // len(names)
    for i, name in enumerate(names):
        one = TensorPlace(shape=place.shape[1:], kind=place.kind, offset=place.offset + i * size, size=size)
        yield _weight(file, one, (name,))


def _weight(file: Path, place: TensorPlace, sources: tuple[str, ...]) -> ArtifactWeight:
    from gguf import GGMLQuantizationType

    kind = GGMLQuantizationType(place.kind).name
    return ArtifactWeight(
        sources=sources,
        shape=place.shape,
        parts=partial(_parts, file, place),
        nearest=_NEAREST.get(kind, 0),
        rounding=_ROUNDINGS.get(kind, _BY_256),
    )


def dequantized(file: Path, place: TensorPlace) -> Array:
    """Return a tensor as float32, whole."""
    return np.concatenate([part.copy() for part in _parts(file, place)])


def _parts(file: Path, place: TensorPlace) -> Iterator[Array]:
    """Yield a tensor as float32, some rows at a time, all in the same memory.

    They are read: pages of a mapped file would stay in memory.
    """
    rows, columns = math.prod(place.shape[:-1]), place.shape[-1]
    size, step = place.size // rows, min(rows_at_once(columns), rows)
    packed: Array = np.empty(step * size, np.uint8)
    values: Array = np.empty(step * columns, np.float32)
    with file.open("rb") as opened:
        opened.seek(place.offset)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            here = packed[: count * size]
            if opened.readinto(here) < len(here):
                raise ValueError(f"{file.name} is damaged: it became shorter")
            yield ggml.dequantized(place.kind, here, values[: count * columns]).reshape(-1, *place.shape[1:])
