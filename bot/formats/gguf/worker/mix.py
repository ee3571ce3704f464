"""The types of a file's tensors, chosen by what rounding to them costs, in no more bytes than the quantizer's own mix.

Every type that a tensor may have is tried on some of its rows, as the file would get them: searched by ggml, and
rounded again by the solver. What that costs is known from the sensitivities of the release, so nothing is read of the
model for it. Where the best mix is not better than the quantizer's own by more than the error of such a prediction, the
quantizer's own stays. Under a size that a person gave, the mix of least cost is taken.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.gguf.worker import calibrated, ggml
from bot.formats.gguf.worker.blocks import LAYOUTS
from bot.formats.gguf.worker.kquants import Quantize
from bot.formats.gguf.worker.layout import Layout, padded
from bot.formats.gguf.worker.rows import Base
from bot.records.artifacts import TypesByCost, Variant
from bot.records.tasks import BuildTask
from bot.worker import mixing
from bot.worker.harness import Reporter
from bot.worker.mixing import Tensor
from bot.worker.moments import Moments
from bot.worker.sensitivities import Sensitivities
from bot.worker.solver import improve

Array = Any  # numpy is not installed where mypy runs

OPTION = "types"  #: of a recipe whose types are chosen
_Q8_0 = 8
_BLOCKS = {kind: layout.weights for kind, layout in LAYOUTS.items()} | {_Q8_0: 32}
_MATRIX = 2  # dimensions

#: The quantizer's own mixes, with which a file of a given size is compared. The smallest and the largest of types that
#: are tried are among them.
OWN = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """The types that a file gets, by tensor, and what is said of them."""

    kinds: Mapping[str, int]
    said: TypesByCost


def takes(variant: Variant) -> bool:
    """Say whether the types of a variant are chosen."""
    return bool(variant.options.get(OPTION))


@dataclass(kw_only=True)
class Mixer:
    """Tries types on the tensors of a release: once, for all files that are made of it."""

    sensitivities: Sensitivities
    moments: Moments
    kernels: Callable[[], Quantize]
    threads: int
    progress: Callable[[int, int], None]
    _table: dict[str, Tensor] | None = None

    def table(self, base: Base) -> Mapping[str, Tensor]:
        """Return each tensor of which it is known what rounding costs, by its name in the file."""
        if self._table is None:
            importance = calibrated.importance(self.moments, base.origins).entries
            known = {name: matrix for name in base.tensors if (matrix := self._matrix(base, name))}
            self._table, quantize = {}, self.kernels()
            with ThreadPoolExecutor(self.threads) as pool:
                tried = pool.map(lambda name: self._costs(known[name], importance.get(name), quantize), known)
                for done, (name, costs) in enumerate(zip(known, tried, strict=True), 1):
                    self.progress(done, len(known))
                    rows, columns = (int(n) for n in base.tensors[name].shape)
                    sizes = {_name(k): padded(ggml.row_size(k, columns) * rows) for k in _kinds(columns)}
                    self._table[name] = Tensor(sizes=sizes, costs=costs)
        return self._table

    def _matrix(self, base: Base, name: str) -> str | None:
        """Return the one matrix of the source that a tensor is, if it is known what rounding that costs."""
        origin = base.origins[name]
        single = origin.copied and len(origin.parts) == 1 and len(base.tensors[name].shape) == _MATRIX
        return origin.parts[0] if single and origin.parts[0] in self.sensitivities else None

    def _costs(self, matrix: str, importance: Array | None, quantize: Quantize) -> dict[str, Array]:
        """Return what each type costs that a matrix may have."""
        rows = self.sensitivities.rows(matrix)
        solve = _solver(matrix, rows, self.moments)
        errors = {_name(kind): _rounded(kind, rows, quantize, importance, solve) for kind in _kinds(rows.shape[1])}
        return mixing.costs(matrix, errors, self.sensitivities, self.moments)


def _kinds(columns: int) -> list[int]:
    """Return the types of matrices with so many columns."""
    return [kind for kind, weights in sorted(_BLOCKS.items()) if columns % weights == 0]


def mixer_with(task: BuildTask, kernels: Callable[[], Quantize], report: Reporter) -> Mixer | None:
    """Return what chooses types for a task; None for one without sensitivities."""
    if not task.sensitivities:
        return None

    def progress(done: int, total: int) -> None:
        report.progress("trying types", done, total, "tensors")

    return Mixer(
        sensitivities=Sensitivities(Path(task.sensitivities)),
        moments=Moments(Path(task.moments)),
        kernels=kernels,
        threads=task.threads,
        progress=progress,
    )


def choose(tensors: Mapping[str, Tensor], own: Layout) -> Mix | None:
    """Return the types of least cost in the bytes that the quantizer's ``own`` layout has; None where none is free."""
    found = mixing.choose(tensors, {name: _name(slot.kind) for name, slot in own.slots.items()})
    return None if found is None else _mix(own, found)


def fit(tensors: Mapping[str, Tensor], own: Mapping[str, Layout], size: int) -> tuple[str, Mix | None]:
    """Return the types of a file of at most ``size`` bytes, and which of the quantizer's ``own`` mixes has the rest.

    The former are None where none is free. Raises mixing.TooSmall.
    """
    mixes = {
        name: mixing.OwnMix(size=layout.size, kinds={n: _name(slot.kind) for n, slot in layout.slots.items()})
        for name, layout in own.items()
    }
    rest, found = mixing.fit(tensors, mixes, size)
    return rest, None if found is None else _mix(own[rest], found)


def _mix(rest: Layout, found: mixing.Mix) -> Mix:
    from gguf import GGMLQuantizationType

    chosen = {name: int(GGMLQuantizationType[kind]) for name, kind in found.kinds.items()}
    return Mix(kinds={name: slot.kind for name, slot in rest.slots.items()} | chosen, said=found.said)


def _name(kind: int) -> str:
    from gguf import GGMLQuantizationType

    name: str = GGMLQuantizationType(kind).name
    return name


_Solve = Callable[[int, Array], Array]  # the type, and rows as ggml packed them: the values of what is solved


def _solver(matrix: str, rows: Array, moments: Moments) -> _Solve | None:
    if matrix not in moments:
        return None
    factors = moments.factors(matrix, rows.shape[1])

    def solve(kind: int, packed: Array) -> Array:
        layout = LAYOUTS[kind]
        return improve(rows, layout.read(packed, rows.shape[1]), factors, layout.grid).values

    return solve


def _rounded(
    kind: int, rows: Array, quantize: Quantize, importance: Array | None, solve: _Solve | None
) -> tuple[Array, Array]:
    """Return the errors of rows as ggml rounds them, and as they are in the file."""
    packed: Array = np.empty((len(rows), ggml.row_size(kind, rows.shape[1])), np.uint8)
    quantize(kind, rows, importance, packed)
    single = ggml.dequantized(kind, packed.reshape(-1), np.empty(rows.size, np.float32)).reshape(rows.shape) - rows
    return single, solve(kind, packed) - rows if solve is not None and kind in LAYOUTS else single
