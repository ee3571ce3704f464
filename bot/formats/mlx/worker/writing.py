"""Write the weights of MLX models, chunk by chunk of rows, each array at its place."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bot.formats.mlx.worker import calibrated
from bot.formats.mlx.worker.layout import ArrayPlace
from bot.formats.mlx.worker.reading import CHUNK, Chunk, Parameter, ReadAhead, as_mlx, chunks
from bot.worker.calibrated import SolverAtWork
from bot.worker.mapped import Mapped
from bot.worker.order import model_order
from bot.worker.placed import PlacedFile

Array = Any  # neither mlx nor numpy is installed where mypy runs

_WAITING = 2  # chunks that are computed and not written


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The treatment of parameters: the type that all are cast to, and group size and bits of those quantized.

    With a ``solver`` those are quantized by that; but for experts, which are one parameter of many tensors.
    """

    cast: str | None
    quantized: Mapping[str, tuple[int, int]]
    solver: SolverAtWork | None = None

    def names(self, parameter: str) -> tuple[str, ...]:
        """Return the names of the arrays that a parameter becomes."""
        if parameter not in self.quantized:
            return (parameter,)
        stem = parameter.removesuffix("weight")
        return parameter, f"{stem}scales", f"{stem}biases"

    def solver_of(self, parameter: Parameter) -> SolverAtWork | None:
        """Return the solver, where it is what quantizes a parameter."""
        return self.solver if parameter.name in self.quantized and len(parameter.sources) == 1 else None

    def made(self, parameter: Parameter, rows: Array) -> dict[str, Array]:
        """Return what the next rows of a parameter become, as bytes of shape (rows, bytes).

        What MLX does of it is not computed yet.
        """
        import mlx.core as mx

        if self.cast is not None:
            rows = rows.astype(getattr(mx, self.cast))
        quantized, solver = self.quantized.get(parameter.name), self.solver_of(parameter)
        arrays: tuple[Array, ...]
        if quantized is None:
            arrays = (rows,)
        elif solver is None:
            arrays = mx.quantize(rows, *quantized)
        else:
            arrays = calibrated.quantized(solver, parameter.sources[0], rows, *quantized)
        return {n: array.view(mx.uint8) for n, array in zip(self.names(parameter.name), arrays, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Output:
    """A target on its way: the place of each array, and the files by their names."""

    recipe: Recipe
    places: Mapping[str, ArrayPlace]
    files: Mapping[str, PlacedFile]

    def order(self, parameter: Parameter) -> tuple[str, int]:
        """Return what parameters are sorted by to have files grow from the beginning: the first place of theirs."""
        return min((self.places[name].file, self.places[name].begin) for name in self.recipe.names(parameter.name))

    def lacks(self, parameter: Parameter) -> bool:
        """Say whether a parameter has to be written."""
        solver = self.recipe.solver_of(parameter)
        written = all(name in self._file(name).whole for name in self.recipe.names(parameter.name))
        return not written or (solver is not None and parameter.sources[0] not in solver.done)

    def size(self, parameters: Iterable[Parameter]) -> int:
        """Return the bytes that parameters become."""
        return sum(self.places[name].size for p in parameters for name in self.recipe.names(p.name))

    def write(self, name: str, row: int, rows: memoryview) -> int:
        """Write rows of an array from a row on; return how many bytes."""
        self._file(name).write(rows, self.places[name].begin + row * rows.nbytes // len(rows))
        return rows.nbytes

    def mark(self, parameter: Parameter) -> None:
        """Say that all of a parameter is written."""
        solver = self.recipe.solver_of(parameter)
        if solver is not None:
            solver.finish(parameter.sources[0])
        for name in self.recipe.names(parameter.name):
            self._file(name).mark(name)

    def _file(self, name: str) -> PlacedFile:
        return self.files[self.places[name].file]


def write(
    outputs: Sequence[Output],
    parameters: Sequence[Parameter],
    mapped: Mapped,
    *,
    threads: int,
    progress: Callable[[int, int], None],
) -> None:
    """Write in one pass, to each output, the parameters that are not whole in it.

    ``progress`` takes the bytes that are written, and all of them.
    """
    import mlx.core as mx

    wanting = {p: [output for output in outputs if output.lacks(p)] for p in parameters}
    # In the order of the largest, which can so be hashed as it grows; of a stream, in the one that workers share.
    largest = max(outputs, key=lambda output: output.size(parameters))
    todo = [p for p in parameters if wanting[p]]
    todo = sorted(todo, key=lambda p: model_order(p.sources[0])) if mapped.streamed else sorted(todo, key=largest.order)
    mapped.order([source for parameter in todo for source in parameter.sources])
    total = sum(output.size(parameters) for output in outputs)
    done = total - sum(output.size([parameter]) for parameter in todo for output in wanting[parameter])
    mx.set_cache_limit(CHUNK * 16)  # what MLX keeps of freed memory: enough for the chunks that are at work
    # A stream keeps one core busy. While they compute, the oldest chunk is written.
    streams = itertools.cycle([mx.new_stream(mx.default_device()) for _ in range(threads)])
    at_work: deque[tuple[Chunk, list[tuple[Output, dict[str, Array]]]]] = deque()
    writing: deque[Future[None]] = deque()

    def put(chunk: Chunk, made: list[tuple[Output, dict[str, memoryview]]]) -> None:
        nonlocal done
        for output, arrays in made:
            done += sum(output.write(name, chunk.row, rows) for name, rows in arrays.items())
            if chunk.last:
                output.mark(chunk.parameter)
        progress(done, total)

    def write_oldest() -> None:
        chunk, made = at_work.popleft()
        computed = [(output, {name: memoryview(array) for name, array in arrays.items()}) for output, arrays in made]
        if len(writing) == _WAITING:
            writing.popleft().result()
        writing.append(writer.submit(put, chunk, computed))

    # The next rows are read meanwhile, which a disk may take as long for as for writing.
    with (
        ThreadPoolExecutor(1, thread_name_prefix="writer") as writer,
        ThreadPoolExecutor(threads, thread_name_prefix="reader") as reader,
    ):
        for chunk in chunks(todo, mapped, ReadAhead(reader, threads)):
            with mx.stream(next(streams)):
                rows = as_mlx(chunk.rows)
                made = [(output, output.recipe.made(chunk.parameter, rows)) for output in wanting[chunk.parameter]]
            mx.async_eval([array for _, arrays in made for array in arrays.values()])
            at_work.append((chunk, made))
            if len(at_work) > threads:
                write_oldest()
        while at_work:
            write_oldest()
        while writing:
            writing.popleft().result()
    if done != total:
        raise RuntimeError(f"{done} bytes were written of {total}")
