"""The treatment of some rows of a tensor: they are brought to the converter's type, and then to each output's.

Several outputs often have a tensor in the same type (Q4_K_M and Q4_K_S differ in a few): that is worked out once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bot.formats.gguf.worker import ggml
from bot.formats.gguf.worker.kquants import Quantize
from bot.formats.gguf.worker.layout import Layout
from bot.formats.gguf.worker.origin import Origin
from bot.worker.placed import PlacedFile

Array = Any  # numpy is not installed where mypy runs

_INVALID = "quantized data validation failed"  # as llama.cpp says it


@dataclass(frozen=True, kw_only=True)
class Base:
    """The checkpoint as the converter would write it in one of its own types: its layout and its lazy tensors."""

    layout: Layout
    tensors: Mapping[str, Any]
    origins: Mapping[str, Origin]


@dataclass(kw_only=True)
class Output:
    """A file on its way. ``weights`` are a matrix's, by tensor; ``refused`` says why the file cannot be made.

    ``quantized`` says whose bytes it has: the quantizer's, which refuses infinite numbers and NaN, or the converter's.
    """

    base: Base
    layout: Layout
    placed: PlacedFile
    quantized: bool
    weights: Mapping[str, Array] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True, kw_only=True)
class Product:
    """The outputs that have a tensor in one type, made with the same weights."""

    kind: int
    weights: Array | None
    outputs: Sequence[Output]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The products that are made of a tensor as the converter has it in one type."""

    base: Base
    kind: int
    products: Sequence[Product]


def groups(name: str, outputs: Sequence[Output]) -> list[Group]:
    """Return what is to be made of a tensor for some outputs."""
    found: dict[int, dict[tuple[int, int], list[Output]]] = {}
    for output in outputs:
        products = found.setdefault(output.base.layout.slots[name].kind, {})
        products.setdefault((output.layout.slots[name].kind, id(output.weights.get(name))), []).append(output)
    return [
        Group(
            base=next(iter(products.values()))[0].base,
            kind=kind,
            products=[
                Product(kind=made, weights=same[0].weights.get(name), outputs=same)
                for (made, _), same in products.items()
            ],
        )
        for kind, products in found.items()
    ]


def converted(stored: int, rows: Array, group: Group) -> Array:
    """Return rows of the source, of the type ``stored``, in the type that the converter gives them in a group."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    plain = any(not o.quantized for p in group.products for o in p.outputs)
    # The converter makes every NaN of BF16 a quiet one; the quantizer refuses them, and so do we, later.
    if stored == group.kind and (stored != ggml.BF16 or not plain or ggml.valid(stored, rows)):
        return rows
    values = ggml.widened(stored, rows) if stored == ggml.BF16 else rows
    return quantize(values, GGMLQuantizationType(group.kind)).view(ggml.NUMPY[group.kind]).reshape(rows.shape)


def make(name: str, group: Group, rows: Array, first: int, expert: int, quantize: Quantize) -> int:
    """Write rows of a tensor, from its row ``first`` on, to the outputs of a group; return the bytes written.

    Outputs whose data ggml does not take are refused from then on.
    """
    if any(o.quantized for p in group.products for o in p.outputs) and not ggml.valid(group.kind, rows):
        _refuse(group.products, f"tensor '{name}' has invalid data")
    wide = None
    written = 0
    for product in group.products:
        outputs = [o for o in product.outputs if o.refused is None]
        if not outputs:
            continue
        made = rows
        if product.kind != group.kind:
            wide = ggml.widened(group.kind, rows) if wide is None else wide
            width = rows.shape[1]
            made = np.empty((len(rows), ggml.row_size(product.kind, width)), np.uint8)
            weights = product.weights
            quantize(product.kind, wide, None if weights is None else weights[expert * width :][:width], made)
            if not ggml.valid(product.kind, made):
                _refuse([product], _INVALID)
                continue
        row_size = made.nbytes // len(made)
        for output in outputs:
            output.placed.write(made, output.layout.slots[name].offset + first * row_size)
            written += made.nbytes
    return written


def _refuse(products: Sequence[Product], reason: str) -> None:
    for output in (o for p in products for o in p.outputs if o.quantized):
        output.refused = output.refused or reason
