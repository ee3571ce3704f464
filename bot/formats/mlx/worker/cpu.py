"""MLX where there is no Metal: what its CPU backend needs before real models can be converted and measured on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bot.formats.mlx.worker.unpack import dequantized

Array = Any  # numpy is not installed where mypy runs
_Block = Callable[[slice], Any]  # some rows of a matrix in float32, as an array of MLX

_QUERIES = 256  # positions whose attention is computed at once
_NOTHING = -80  # a score so far below the best counts nothing, and would make numbers that processors are slow with
_AT_ONCE = 1 << 22  # weights in float32 at once: 16 MB; of fewer, BLAS rearranges all states for too few rows


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
    """Compute the products of activations and weights in float32. Changes nothing on Metal.

    The CPU backend sums in the type of the activations, where Metal's kernels sum in float32, and it takes eight times
    as long in bfloat16. So its kernel is given all that it multiplies in float32. It takes 0.9 ns a weight for each row
    of activations: for more than one, they are dequantized, and numpy's BLAS multiplies. Attention over
    2,048 positions takes numpy a fifteenth of what MLX takes on a CPU. The functions that are replaced take the
    arguments that mlx-lm gives them.
    """
    import mlx.core as mx
    from mlx import nn

    if not on_cpu():
        yield
        return

    kernel, attention = mx.quantized_matmul, mx.fast.scaled_dot_product_attention

    def wide(x: Any) -> Any:
        return x.astype(mx.float32)

    def narrow(rows: Any, x: Any) -> Any:
        return mx.array(rows).reshape(*x.shape[:-1], -1).astype(x.dtype)

    def flat(x: Any) -> Array:
        return np.asarray(wide(x)).reshape(-1, x.shape[-1])

    def of_floats(rows: Array, weight: Any) -> Array:
        return _product(rows, weight.shape[0], lambda some: wide(weight[some]))

    def of_quantized(rows: Array, w: Any, scales: Any, biases: Any, *, transpose: bool, **how: Any) -> Any:
        if len(rows) == 1 or not transpose:
            return kernel(mx.array(rows), w, wide(scales), wide(biases), transpose=transpose, **how)
        return _product(rows, w.shape[0], lambda some: dequantized(w[some], scales[some], biases[some], **how))

    def quantized_matmul(x: Any, w: Any, *, scales: Any, biases: Any, **how: Any) -> Any:
        return narrow(of_quantized(flat(x), w, scales, biases, **how), x)

    def of_experts(x: Any, indices: Any, product: Callable[[Array, int], Any]) -> Any:
        chosen = np.asarray(indices)
        rows = np.asarray(wide(x))
        batch = np.broadcast_shapes(rows.shape[:-2], chosen.shape)
        chosen, rows = np.broadcast_to(chosen, batch), np.broadcast_to(rows, (*batch, *rows.shape[-2:]))
        result: Any = None
        for expert in np.unique(chosen):
            here = chosen == expert
            part = np.asarray(product(rows[here].reshape(-1, rows.shape[-1]), int(expert)))
            if result is None:
                result = np.empty((*batch, rows.shape[-2], part.shape[-1]), dtype=np.float32)
            result[here] = part.reshape(-1, *result.shape[-2:])
        return mx.array(result).astype(x.dtype)

    def gather_mm(x: Any, weights: Any, *, rhs_indices: Any, sorted_indices: bool) -> Any:  # noqa: ARG001 - so called
        return of_experts(x, rhs_indices, lambda rows, e: of_floats(rows, weights[e].T))

    def gather_qmm(x: Any, *quantized: Any, rhs_indices: Any, **settings: Any) -> Any:
        how = {name: settings[name] for name in ("transpose", "group_size", "bits", "mode")}
        return of_experts(x, rhs_indices, lambda rows, e: of_quantized(rows, *(a[e] for a in quantized), **how))

    def linear(self: Any, x: Any) -> Any:
        y = narrow(of_floats(flat(x), self["weight"]), x)
        return y + self["bias"] if "bias" in self else y

    def as_linear(self: Any, x: Any) -> Any:
        return narrow(of_floats(flat(x), self["weight"]), x)

    def scaled_dot_product_attention(q: Any, k: Any, v: Any, *, scale: float, mask: Any, sinks: Any = None) -> Any:
        if sinks is not None:  # no Phi has them
            return attention(q, k, v, scale=scale, mask=mask, sinks=sinks)
        if isinstance(mask, mx.array):
            mask = np.asarray(mask if mask.dtype == mx.bool_ else wide(mask))
        query, key, value = (np.asarray(wide(x)) for x in (q, k, v))
        return mx.array(_attention(query * np.float32(scale), key, value, mask)).astype(q.dtype)

    replaced = (
        (mx.fast, "scaled_dot_product_attention", scaled_dot_product_attention),
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


def _attention(query: Array, key: Array, value: Array, mask: Array | str | None) -> Array:
    """Return float32 attention, as ``mx.fast.scaled_dot_product_attention`` says it, of queries that are scaled.

    All are of shape (batch, heads, positions, size), and several heads of ``query`` may share one of the others.
    """
    batch, heads, positions, _ = query.shape
    keys, shared = key.shape[2], heads // key.shape[1]
    result: Array = np.empty((*query.shape[:3], value.shape[-1]), dtype=np.float32)
    behind = np.arange(keys - positions, keys)[:, None] - np.arange(keys)
    causal = isinstance(mask, str)
    seen: Array = behind >= 0 if causal else np.True_ if mask is None else mask
    full = np.broadcast_to(_hidden(seen) if seen.dtype == bool else seen, (batch, heads, positions, keys))
    for b, h in np.ndindex(batch, heads):
        for first in range(0, positions, _QUERIES):
            some = slice(first, first + _QUERIES)
            end = min(keys - positions + first + _QUERIES, keys) if causal else keys
            scores = query[b, h, some] @ key[b, h // shared, :end].T
            scores += full[b, h, some, :end]
            scores -= scores.max(axis=-1, keepdims=True)
            scores[scores < _NOTHING] = -np.inf
            np.exp(scores, out=scores)
            np.matmul(scores, value[b, h // shared, :end], out=result[b, h, some])
            result[b, h, some] /= scores.sum(axis=-1, keepdims=True)
    return result


def _hidden(seen: Array) -> Array:
    """Return what is added to scores so that keys that are not seen count nothing."""
    return np.where(seen, np.float32(0), np.float32(-np.inf))


def _product(rows: Array, height: int, block: _Block) -> Array:
    """Return the product of float32 rows, of shape (rows, width), and of a matrix with so many rows, transposed."""
    result: Array = np.empty((len(rows), height), dtype=np.float32)
    step = max(_AT_ONCE // rows.shape[-1], 1)
    for first in range(0, height, step):
        some = slice(first, first + step)
        np.matmul(rows, np.asarray(block(some)).T, out=result[:, some])
    return result
