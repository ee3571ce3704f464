"""How runtimes round on their way, imitated: activations before a product with quantized weights, and states between.

A runtime that rounds activations to 8 bits is not wrong, and what that costs differs from model to model by orders of
magnitude. So it is computed on the very model (see engine.py) rather than allowed for by a constant. Needs numpy alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # numpy is not installed where mypy runs
Rounding = Callable[[Array], Array]  # float32 of shape (rows, columns), and the same as a runtime rounds it


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What a runtime rounds whatever the weights: ``states`` after each step, and ``cache`` of keys and values.

    None is float32. ``products`` says that inputs of products are rounded too, in ways that depend on the weights.
    ``phimoe_as_phi3`` is of a runtime that computes PhiMoE otherwise than the original: with Phi-3's norms, which leave
    the mean as it is, and with experts weighed by a softmax over the two that are chosen.
    """

    states: Rounding | None = None
    cache: Rounding | None = None
    products: bool = False
    phimoe_as_phi3: bool = False

    @property
    def exact(self) -> bool:
        """True where all is computed in float32."""
        return self.states is None and self.cache is None and not self.products


def bfloat16(values: Array) -> Array:
    """Round to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> 16) & 1
    return ((bits + 0x7FFF + odd) & np.uint32(0xFFFF0000)).view(np.float32)


def float16(values: Array) -> Array:
    """Round to the nearest float16; what is too large becomes infinity."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def sixteen_bits(values: Array) -> Array:
    """Round to the nearest float32 of which only 16 bits of the significand count, ties to even.

    Products with whole numbers of 8 bits are exact then, and so are sums of two of them: runtimes that compute in
    different orders come to the same.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> 8) & 1
    return ((bits + 0x7F + odd) & np.uint32(0xFFFFFF00)).view(np.float32)


def eight_bits(block: int, *, half_scales: bool = False) -> Rounding:
    """Return what rounds blocks of columns to 8 bits, each with the scale that its largest value has 127.

    ``block`` is how many columns, or 0 for whole rows. ``half_scales`` are kept in float16.
    """

    def rounded(values: Array) -> Array:
        if not values.size:  # of an expert that nothing is sent to
            return values
        rows, columns = values.shape
        size = block or columns
        whole = columns // size * size
        if whole < columns:  # the last block is shorter
            return np.concatenate([rounded(values[:, :whole]), eight_bits(0)(values[:, whole:])], axis=1)
        blocks = values.reshape(rows, -1, size)
        scale = np.abs(blocks).max(axis=-1, keepdims=True) / 127
        codes = np.rint(np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0))
        return (codes * (float16(scale) if half_scales else scale)).reshape(rows, columns)

    return rounded
