"""Write the weights of MLX models, chunk by chunk of rows, each array at its place."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.workers.mapped import Mapped
from bot.workers.mlx.layout import Place
from bot.workers.mlx.placed import Placed

Array = Any  # neither mlx nor numpy is installed where mypy runs

_CHUNK = 1 << 22  # weights: 8 MB, so much that calls cost nothing beside the work
_NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}  # numpy has no bfloat16: here its bits


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of the model before it is quantized, and the tensors whose rows make it up, in that order."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What becomes of the parameters: the type that all are cast to, and group size and bits of those quantized."""

    cast: str | None
    quantized: Mapping[str, tuple[int, int]]

    def names(self, parameter: str) -> tuple[str, ...]:
        """Return the names of the arrays that a parameter becomes."""
        if parameter not in self.quantized:
            return (parameter,)
        stem = parameter.removesuffix("weight")
        return parameter, f"{stem}scales", f"{stem}biases"

    def made(self, parameter: str, rows: Array) -> dict[str, Array]:
        """Return what rows of a parameter become, as bytes of shape (rows, bytes); nothing is computed yet."""
        import mlx.core as mx

        if self.cast is not None:
            rows = rows.astype(getattr(mx, self.cast))
        quantized = self.quantized.get(parameter)
        arrays = (rows,) if quantized is None else mx.quantize(rows, *quantized)
        return {n: array.view(mx.uint8) for n, array in zip(self.names(parameter), arrays, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Output:
    """The files of a target on their way."""

    recipe: Recipe
    places: Mapping[str, Place]
    files: Placed

    def size(self, parameters: Sequence[Parameter]) -> int:
        """Return the bytes that parameters become."""
        return sum(self.places[name].size for p in parameters for name in self.recipe.names(p.name))

    def write(self, name: str, row: int, array: Array) -> int:
        """Write an array's bytes from a row on; return how many."""
        place = self.places[name]
        return self.files.write(place.file, place.begin + row * array.shape[1], array)


def write(
    outputs: Sequence[Output],
    parameters: Sequence[Parameter],
    mapped: Mapped,
    *,
    threads: int,
    progress: Callable[[int, int], None],
) -> None:
    """Write the weights of all outputs in one pass, from the first parameter on that is not whole in all of them.

    ``progress`` takes the bytes that are written, and all of them.
    """
    import mlx.core as mx

    first = min(output.files.done for output in outputs)
    mapped.order([source for parameter in parameters[first:] for source in parameter.sources])
    total = sum(output.size(parameters) for output in outputs)
    done = total - sum(output.size(parameters[output.files.done :]) for output in outputs)
    mx.set_cache_limit(_CHUNK * 16)  # what MLX keeps of freed memory: enough for the chunks that are at work
    # A stream keeps one core busy. While they compute, the oldest chunk is written.
    streams = itertools.cycle([mx.new_stream(mx.default_device()) for _ in range(threads)])
    at_work: deque[tuple[int, int, list[tuple[Output, dict[str, Array]]]]] = deque()

    def write_oldest() -> None:
        nonlocal done
        number, row, made = at_work.popleft()
        for output, arrays in made:
            output.files.mark(number)  # all of the parameters before this one are written
            done += sum(output.write(name, row, array) for name, array in arrays.items())
        progress(done, total)

    for number, row, rows in _chunks(parameters, first, mapped):
        wanting = [output for output in outputs if output.files.done <= number]
        with mx.stream(next(streams)):
            array = _array(rows)
            made = [(output, output.recipe.made(parameters[number].name, array)) for output in wanting]
        mx.async_eval([array for _, arrays in made for array in arrays.values()])
        at_work.append((number, row, made))
        if len(at_work) > threads:
            write_oldest()
    while at_work:
        write_oldest()
    if done != total:
        raise RuntimeError(f"{done} bytes were written of {total}")


def _chunks(parameters: Sequence[Parameter], first: int, mapped: Mapped) -> Iterator[tuple[int, int, Array]]:
    """Yield the rows of all parameters from the ``first`` on: its number, the first row's, and the rows.

    These are numpy's, and not read before they are looked at, which must be before the next ones are asked for. A
    vector is one row.
    """
    for number, parameter in enumerate(parameters[first:], first):
        row = 0
        for source in parameter.sources:
            stored = mapped.stored[source]
            columns = stored.shape[-1]
            count = int(np.prod(stored.shape[:-1]))
            step = max(_CHUNK // columns, 1)
            row_bytes = stored.size // count
            with mapped.held(source):
                for begin in range(0, count, step):
                    end = min(begin + step, count)
                    view = mapped.view(source)[begin * row_bytes : end * row_bytes]
                    yield number, row + begin, np.frombuffer(view, _NUMPY[stored.dtype]).reshape(-1, columns)
                    mapped.drop(source, begin * row_bytes, end * row_bytes)
            row += count


def _array(rows: Array) -> Array:
    """Return a copy of rows as MLX's array."""
    import mlx.core as mx

    array = mx.array(rows)
    return array.view(mx.bfloat16) if array.dtype == mx.uint16 else array
