"""Plain rounding: the yardstick of what the bits of a precision cost on a model. Needs torch.

A model is plainly rounded to so many bits when every matrix of its layers, its embedding and its output matrix are
rounded, and nothing else is: no norm, no bias, no router of experts, no state on the way. 32 columns of a row share a
scale, or the whole row where there are 8 bits, as is the custom: their value of largest magnitude, divided by
-2^(bits - 1). Each value becomes the nearest of the 2^bits levels from -2^(bits - 1) to 2^(bits - 1) - 1 times the
scale, which is kept in float32. So a matrix of zeros stays what it is, and the value of largest magnitude is always
exact. No level is searched for, no zero point is fitted and no text is asked: what does better has earned it.

Of fp16 and bf16 each value becomes the nearest that the type has.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

Tensor = Any  # torch is not installed where mypy runs
#: Of float32 values of shape (rows, columns), and of what ``largest`` says of them: the values rounded.
Rounding = Callable[[Tensor, Tensor], Tensor]

_BLOCK = 32
_AT_ONCE = 1 << 20  # numbers rounded together: 4 MiB, which caches hold
_EXACT = {"fp16": {"F16", "BF16"}, "bf16": {"BF16"}}  # bfloat16 loses what is below 2^-17 in float16, beside its size


def to_levels(bits: int, *, whole_rows: bool = False) -> Rounding:
    """Return what rounds to so many bits, 2 or more, with a scale for each block of columns or for whole rows."""
    half = 2 ** (bits - 1)

    def rounded(values: Tensor, largest: Tensor) -> Tensor:
        if whole_rows:
            largest = largest.gather(1, largest.abs().argmax(1, keepdim=True))
        scale = largest / -half
        steps = torch.where(scale == 0, 0, 1 / scale)
        blocks = _blocks(values)
        levels = torch.mul(blocks, steps).round_().clamp_(max=half - 1).mul_(scale)
        return levels.view(len(values), -1)[:, : values.shape[1]]

    return rounded


def to_type(dtype: Any) -> Rounding:
    """Return what rounds to a floating type; what is too large becomes the largest that it has."""
    most = torch.finfo(dtype).max
    return lambda values, _: values.clamp(-most, most).to(dtype).to(torch.float32)


ROUNDINGS: dict[str, Rounding] = {
    **{f"int{bits}": to_levels(bits) for bits in (2, 3, 4, 5, 6)},
    "int8": to_levels(8, whole_rows=True),
    "fp16": to_type(torch.float16),
    "bf16": to_type(torch.bfloat16),
}
"""Plain rounding to each precision class of the catalogue; fp32 rounds nothing."""


def is_exact(precision: str, stored_as: set[str]) -> bool:
    """Say whether rounding to a class leaves matrices as they are, by the types that files hold them in."""
    return stored_as <= _EXACT.get(precision, set())


def largest(values: Tensor) -> Tensor:
    """Return the value of largest magnitude, with its sign, of each block of columns: shape (rows, blocks, 1)."""
    blocks = _blocks(values)
    most, least = blocks.amax(-1, keepdim=True), blocks.amin(-1, keepdim=True)
    return torch.where(most >= -least, most, least)


def rounded(values: Tensor, rounding: Rounding) -> Tensor:
    """Return values of shape (rows, columns) rounded."""
    return rounding(values, largest(values))


def product(states: Tensor, weight: Tensor, roundings: Sequence[Rounding], counts: Sequence[int]) -> Tensor:
    """Return states times the transpose of a matrix that is rounded otherwise for each of their parts.

    The parts are ``counts`` rows after the others, one part for each rounding. A few rows of the matrix are rounded at
    once, so this takes no memory beside the result. That is done by one thread: torch's own wait for each other in a
    loop, and numpy's for them, which takes twenty times as long where a machine has other work.
    """
    with _one_thread():
        return _product(states, weight, list(zip(roundings, counts, strict=True)))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _product(states: Tensor, weight: Tensor, parts: Sequence[tuple[Rounding, int]]) -> Tensor:
    result = torch.empty(len(states), len(weight))
    counts = [count for _, count in parts]
    split = list(zip(parts, states.split(counts), result.split(counts), strict=True))
    step = max(_AT_ONCE // weight.shape[1], 1)
    for first in range(0, len(weight), step):
        rows = weight[first : first + step]
        top = largest(rows)
        for (rounding, _), part, of_part in split:
            if len(part):
                of_part[:, first : first + step] = torch.from_numpy(part.numpy() @ rounding(rows, top).numpy().T)
    return result


def _blocks(values: Tensor) -> Tensor:
    short = -values.shape[1] % _BLOCK
    padded = torch.nn.functional.pad(values, (0, short)) if short else values
    return padded.reshape(len(values), -1, _BLOCK)
