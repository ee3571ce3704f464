"""The treatment of some rows of a tensor: they are brought to the converter's type, and then to each output's.

Several outputs often have a tensor in the same type (Q4_K_M and Q4_K_S differ in a few): that is worked out once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bot.formats.gguf.worker import calibrated, ggml
from bot.formats.gguf.worker.blocks import LAYOUTS
from bot.formats.gguf.worker.calibrated import InOrder, Matrix
from bot.formats.gguf.worker.kquants import Quantize
from bot.formats.gguf.worker.layout import Layout
from bot.formats.gguf.worker.origin import Origin
from bot.worker.calibrated import RoundedRows, SolverAtWork
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

    The ``solver`` rounds the matrices of a calibrated file again. ``quantized`` says whose bytes it has: the
    quantizer's, which refuses infinite numbers and NaN, or the converter's.
    """

    base: Base
    layout: Layout
    placed: PlacedFile
    quantized: bool
    weights: Mapping[str, Array] = field(default_factory=dict)
    solver: SolverAtWork | None = None
    refused: str | None = None

    def lacks(self, name: str, origin: Origin) -> bool:
        """Say whether a tensor is to be written, or was not said to be solved when it was."""
        unsolved = calibrated.lacks(self.solver, origin, self.layout.slots[name].kind)
        return name not in self.placed.whole or unsolved

    def mark(self, name: str, matrix: Matrix | None) -> None:
        """Say that a tensor is written, and solved if it is a matrix that the solver rounds."""
        if self.solver is not None and matrix is not None and self.layout.slots[name].kind in LAYOUTS:
            self.solver.finish(matrix.name)
        self.placed.mark(name)


@dataclass(frozen=True, kw_only=True)
class Product:
    """The outputs that have a tensor in one type, made with the same weights.

    Where they are calibrated, and the tensor is a ``matrix`` whose inputs are known, ``rounded`` takes its values.
    """

    kind: int
    weights: Array | None
    outputs: Sequence[Output]
    matrix: Matrix | None = None
    rounded: InOrder | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The products that are made of a tensor as the converter has it in one type."""

    base: Base
    kind: int
    products: Sequence[Product]


def groups(name: str, outputs: Sequence[Output], matrix: Matrix | None) -> list[Group]:
    """Return what is to be made of a tensor, which may be a matrix that calibrated outputs have rounded for them."""
    found: dict[int, dict[tuple[int, int], list[Output]]] = {}
    for output in outputs:
        products = found.setdefault(output.base.layout.slots[name].kind, {})
        products.setdefault((output.layout.slots[name].kind, id(output.weights.get(name))), []).append(output)
    return [
        Group(
            base=next(iter(products.values()))[0].base,
            kind=kind,
            products=[_product(made, name, same, matrix) for (made, _), same in products.items()],
        )
        for kind, products in found.items()
    ]


def _product(kind: int, name: str, outputs: Sequence[Output], matrix: Matrix | None) -> Product:
    made = Product(kind=kind, weights=outputs[0].weights.get(name), outputs=outputs)
    solvers = [o.solver for o in outputs if o.solver is not None]
    if matrix is None or not solvers or kind not in LAYOUTS:
        return made

    def take(rows: RoundedRows) -> None:
        for solver in solvers:
            solver.take(rows)

    return replace(made, matrix=matrix, rounded=InOrder(take))


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
            if product.matrix is not None and product.rounded is not None:
                product.rounded.add(first, calibrated.improved(product.kind, made, wide, product.matrix))
        row_size = made.nbytes // len(made)
        for output in outputs:
            output.placed.write(made, output.layout.slots[name].offset + first * row_size)
            written += made.nbytes
    return written


def _refuse(products: Sequence[Product], reason: str) -> None:
    for output in (o for p in products for o in p.outputs if o.quantized):
        output.refused = output.refused or reason
