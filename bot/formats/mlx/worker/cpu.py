"""MLX where there is no Metal: what its CPU backend needs before real models can be converted and measured on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def on_cpu() -> bool:
    """Say whether MLX runs on its CPU backend here."""
    import mlx.core as mx

    return not mx.metal.is_available()


def prepare() -> None:
    """Keep MLX from compiling kernels while it runs.

    Where there is a ``g++``, its CPU backend fuses operations by writing C++ into the shared temporary folder,
    compiling it, and loading the result from there: anyone who can write there could put a library in its place.
    """
    import mlx.core as mx

    if on_cpu():
        mx.disable_compile()


@contextmanager
def float32_products() -> Iterator[None]:
    """Compute the products of activations and weights in float32, by numpy's BLAS. Changes nothing on Metal.

    The CPU backend multiplies quantized weights at 0.3 GFLOP/s on a core, which is days for a model of 4 billion
    parameters, and sums in the type of the activations; Metal's kernels sum in float32, as this does. The functions
    that are replaced take the arguments that mlx-lm's modules give them.
    """
    import mlx.core as mx
    from mlx import nn

    if not on_cpu():
        yield
        return

    def product(x: Any, weight: Any) -> Any:
        rows = np.asarray(x.astype(mx.float32)).reshape(-1, x.shape[-1])
        result = rows @ np.asarray(weight.astype(mx.float32)).T
        return mx.array(result.reshape(*x.shape[:-1], -1)).astype(x.dtype)

    def quantized_matmul(
        x: Any, w: Any, *, scales: Any, biases: Any, transpose: bool, group_size: int, bits: int, mode: str
    ) -> Any:
        weight = mx.dequantize(w, scales.astype(mx.float32), biases.astype(mx.float32), group_size, bits, mode)
        return product(x, weight if transpose else weight.T)

    def of_experts(x: Any, indices: Any, matrix: Callable[[int], Any]) -> Any:
        chosen = np.asarray(indices)
        rows = np.asarray(x.astype(mx.float32))
        batch = np.broadcast_shapes(rows.shape[:-2], chosen.shape)
        chosen, rows = np.broadcast_to(chosen, batch), np.broadcast_to(rows, (*batch, *rows.shape[-2:]))
        result: Any = None
        for expert in np.unique(chosen):
            here = chosen == expert
            part = rows[here] @ np.asarray(matrix(int(expert)))
            if result is None:
                result = np.empty((*batch, *part.shape[-2:]), dtype=np.float32)
            result[here] = part
        return mx.array(result).astype(x.dtype)

    def gather_mm(x: Any, weights: Any, *, rhs_indices: Any, sorted_indices: bool) -> Any:  # noqa: ARG001 - so called
        return of_experts(x, rhs_indices, lambda e: weights[e].astype(mx.float32))

    def gather_qmm(
        x: Any,
        w: Any,
        scales: Any,
        biases: Any,
        *,
        rhs_indices: Any,
        transpose: bool,
        group_size: int,
        bits: int,
        mode: str,
        global_scale: Any,
        sorted_indices: bool,  # noqa: ARG001
    ) -> Any:
        def matrix(e: int) -> Any:
            s, b = scales[e].astype(mx.float32), biases[e].astype(mx.float32)
            weight = mx.dequantize(w[e], s, b, group_size, bits, mode, global_scale)
            return weight.T if transpose else weight

        return of_experts(x, rhs_indices, matrix)

    def linear(self: Any, x: Any) -> Any:
        y = product(x, self["weight"])
        return y + self["bias"] if "bias" in self else y

    def as_linear(self: Any, x: Any) -> Any:
        return product(x, self["weight"])

    replaced = (
        (mx, "quantized_matmul", quantized_matmul),
        (mx, "gather_mm", gather_mm),
        (mx, "gather_qmm", gather_qmm),
        (nn.Linear, "__call__", linear),
        (nn.Embedding, "as_linear", as_linear),
    )
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, replacement in replaced:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
