"""Matrices of PyTorch rounded for what they are multiplied with: the shared solver on groups of compressed-tensors."""

from typing import Any

from bot.worker.calibrated import SolverAtWork
from bot.worker.rounding import bfloat16, float16, sixteen_bits
from bot.worker.solver import Grid

Tensor = Any  # neither torch nor compressed-tensors is installed where mypy runs
Scheme = Any

# Products of codes with scales are exact then, whether 8 is taken from codes before or from the products.
_STORED = {"bfloat16": bfloat16, "float16": float16, "float32": sixteen_bits}


def compressed(solver: SolverAtWork, matrix: str, rows: Tensor, scheme: Scheme) -> dict[str, Tensor]:
    """Return what the next rows of a matrix become, as scheme.compressed does; codes and scales are of the solver."""
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    bits, kind = scheme.weights.num_bits, str(rows.dtype).removeprefix("torch.")
    grid = Grid(bits=bits, group=scheme.weights.group_size, offsets="middle", stored=_STORED[kind])
    found, rounded = solver.solve(matrix, rows.float().numpy(), grid)
    solver.take(rounded)
    codes = torch.from_numpy(found.codes).to(torch.int16) - (1 << (bits - 1))
    return {
        "weight_packed": pack_to_int32(codes.to(torch.int8), bits),
        "weight_scale": torch.from_numpy(found.scales).to(rows.dtype),
        "weight_shape": torch.tensor(rows.shape),
    }
