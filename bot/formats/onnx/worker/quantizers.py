"""onnxruntime's MatMulNBits quantizers, on a few rows of a matrix at a time.

A quantizer takes rows of a weight as the checkpoint holds them, (outputs, inputs), and returns what the node has of
them: the packed integers, the scales and, where it has them, the zero points, each with the rows first. Blocks run
along a row, so rows are independent, and any number of them gives the bytes that all of them give.
"""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    DefaultWeightOnlyQuantizer,
    QuantFormat,
)
from onnxruntime.quantization.neural_compressor import weight_only

Tensor = Any  # neither torch nor numpy is installed where mypy runs
Array = Any

Quantizer = Callable[[Tensor], tuple[Array, ...]]


def default(bits: int, block: int, *, symmetric: bool) -> Quantizer:
    """Return the default method: the kernel's own arithmetic in torch where it is known to agree, else the kernel."""
    kernel = kernel_of(bits, block, symmetric=symmetric)
    if not symmetric or bits not in (4, 8) or not agrees(bits, block):
        return kernel

    def quantize(values: Tensor) -> tuple[Array, ...]:
        if values.shape[1] % block:
            return kernel(values)
        return symmetric_blocks(values, bits, block) or kernel(values)

    return quantize


def kernel_of(bits: int, block: int, *, symmetric: bool) -> Quantizer:
    """Return onnxruntime's own function. It holds Python's lock, and walks a transposed copy element by element."""
    config = DefaultWeightOnlyQuantConfig(
        block_size=block, is_symmetric=symmetric, quant_format=QuantFormat.QOperator, bits=bits
    )
    own = DefaultWeightOnlyQuantizer(config)

    def quantize(values: Tensor) -> tuple[Array, ...]:
        packed, scales, zero_points = own.qbits_block_quant(values.T.contiguous().numpy())
        return (packed, scales) if symmetric else (packed, scales, zero_points)

    return quantize


def symmetric_blocks(values: Tensor, bits: int, block: int) -> tuple[Array, Array] | None:
    """Quantize blocks around zero: the operations of the kernel, each rounded as there, over whole rows at once.

    It takes 2 ns a weight where the kernel takes 15 to 19, and lets other threads run. Returns None for weights that
    are not finite, or so near zero that the scale's reciprocal is not: what the kernel does with those is its own.

    The kernel adds the middle to a product and rounds halves away from zero. Adding the half first and cutting off is
    the same here: between an integer and the half below it float has no coarser steps than from there to the integer.
    """
    half = float(1 << (bits - 1))
    blocks = values.float().reshape(len(values), -1, block)
    least, most = blocks.amin(-1), blocks.amax(-1)  # in one go they take six times as long
    farthest = torch.where(most.abs() > least.abs(), most, least)
    farthest = torch.where(farthest == 0, blocks[..., 0], farthest)  # of zeros of both signs the kernel takes the first
    scales = (farthest / -half).to(values.dtype)  # the kernel divides by the scale as it is stored
    stored = scales.float()
    reciprocal = torch.where(stored != 0, 1 / stored, 0.0)
    if not (torch.isfinite(farthest).all() and torch.isfinite(reciprocal).all() and torch.isfinite(stored).all()):
        return None
    levels = blocks * reciprocal.unsqueeze(-1)
    levels += half + 0.5
    levels.clamp_(0.0, 2 * half - 1)
    packed = levels.to(torch.int16)  # torch has vector instructions for this conversion, and none to a byte
    if bits == 4:
        # Two to a byte, the earlier one below: they lie beside each other, and one shift brings them together.
        pairs = packed.view(torch.int32)
        packed = pairs | (pairs >> 12)
    packed = packed.to(torch.uint8)
    return packed.numpy(), scales.numpy()


@cache
def agrees(bits: int, block: int) -> bool:
    """Say whether our arithmetic gives the kernel's bytes on this machine: another compiler may round otherwise."""
    random = torch.Generator().manual_seed(0)
    kernel = kernel_of(bits, block, symmetric=True)
    for dtype in (torch.float32, torch.float16):
        for spread in (1e-4, 0.02, 3.0):
            values = (torch.randn(64, 8 * block, generator=random) * spread).bfloat16().to(dtype)
            values[0] = 0.0
            ours = symmetric_blocks(values, bits, block)
            if ours is None or not all(map(np.array_equal, ours, kernel(values))):
                return False
    return True


def k_quant(bits: int, block: int) -> Quantizer:
    """Return the method that searches each block's scale and offset, with the tool's own functions on few rows."""

    def quantize(values: Tensor) -> tuple[Array, ...]:
        rows, columns = values.shape
        blocks = -(-columns // block)
        padded = np.pad(values.numpy(), ((0, 0), (0, blocks * block - columns)))
        with np.errstate(all="ignore"):  # a block of equal weights divides by zero there, and is mended afterwards
            quantized, scales, zero_points = weight_only.quant_tensor_k_quant_cuda(padded, bits, block)
        _, made = weight_only.make_matmul_weight_only_node(
            SimpleNamespace(name="", input=["", ""], output=[""]),
            (columns, rows),
            bits,
            block,
            blocks,
            quantized.astype("uint8"),
            scales.astype(padded.dtype),
            zero_points,
        )
        scale, zero_point, packed = (_array(tensor) for tensor in made)
        return packed, scale, zero_point

    return quantize


def _array(tensor: Any) -> Array:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)
