"""Muon: momentum whose steps have orthogonal rows or columns (K. Jordan and others, 2024,
https://kellerjordan.github.io/posts/muon/). It learns most from few tokens.

PyTorch's own iterates in bfloat16. A processor without instructions for that type takes a hundred times as long over
it, so here it is float32.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch

Tensor = Any  # torch is not installed where mypy runs

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that has the steepest slope at 0 and stays near 1
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Steps matrices by their orthogonalised momentum, as Nesterov's, without weight decay."""

    def __init__(self, matrices: Iterable[Tensor], *, lr: float) -> None:
        """``lr`` is the length of a step in each direction of a matrix that has no more rows than columns."""
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self) -> None:
        """Move all matrices by one step."""
        for group in self.param_groups:
            for matrix in group["params"]:
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - _MOMENTUM)
                rows, columns = matrix.shape
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                matrix.sub_(orthogonal(matrix.grad.lerp(momentum, _MOMENTUM)), alpha=rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with the singular vectors of another, and singular values between about 0.7 and 1.2.

    That is what a few Newton-Schulz iterations give, whatever the singular values were.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    first, third, fifth = _COEFFICIENTS
    result = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        square = result @ result.T
        result = torch.addmm(result, torch.addmm(square, square, square, beta=third, alpha=fifth), result, beta=first)
    return result
