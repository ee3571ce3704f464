"""The types of a file's matrices, chosen by what rounding to them costs, in no more bytes than the tool's own mix.

What each type costs is known from some rows of a matrix and the sensitivities of the release (see sensitivities.py), so
nothing is read of the model for it. A format says which types there are, and their bytes. Where the best mix is not
better than the tool's own by more than the error of such a prediction, the tool's own stays. Under a size that a person
gave, the mix of least cost is taken. Needs numpy alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.artifacts import TypesByCost
from bot.records.tasks import BuildTask
from bot.worker.allocation import Choice, allocate, largest, smallest
from bot.worker.harness import Reporter
from bot.worker.moments import Moments
from bot.worker.sensitivities import Errors, Sensitivities
from bot.worker.solve_check import weighted
from bot.worker.solver import Grid, plainly, solve

Array = Any  # numpy is not installed where mypy runs


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor whose type may be chosen: the bytes of each type that it may have, and what that costs, by its name.

    The costs are in nats a token, in each window of the calibration text.
    """

    sizes: Mapping[str, int]
    costs: Mapping[str, Array]

    def choice(self, kind: str) -> Choice:
        """Return a type as the allocation takes it."""
        return Choice(kind=kind, size=self.sizes[kind], cost=float(self.costs[kind].mean()))


@dataclass(frozen=True, kw_only=True)
class Mix:
    """The types of the tensors that were free, by tensor, and what is said of them."""

    kinds: Mapping[str, str]
    said: TypesByCost


@dataclass(frozen=True, kw_only=True)
class OwnMix:
    """A mix of the tool's own: the ``size`` of the whole file in bytes, and the type of each tensor in it, by name."""

    size: int
    kinds: Mapping[str, str]


class TooSmall(Exception):  # noqa: N818 - an answer: the variant is not made, the others are
    """No file of a model has so few bytes. The message says what the smallest and the largest have."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A type as the solver knows it: the ``size`` in bytes of a whole matrix, and its grid.

    A type that is ``solved`` is rounded for what the matrix is multiplied with, if that is known; another one plainly.
    """

    size: int
    grid: Grid
    solved: bool = True


def choose(tensors: Mapping[str, Tensor], own: Mapping[str, str]) -> Mix | None:
    """Return the types of least cost in the bytes that the tool's ``own`` types have; None where none is free.

    A tensor stays as it is where its own type is none of those that were tried.
    """
    free = {name: t for name, t in tensors.items() if own[name] in t.costs}
    if not free:
        return None
    own_kinds = {name: own[name] for name in free}
    room = sum(t.choice(own_kinds[name]).size for name, t in free.items())
    found = allocate({name: [t.choice(kind) for kind in t.costs] for name, t in free.items()}, room)
    best = {name: str(choice.kind) for name, choice in found.items()}
    said = _compared(_total(free, best), _total(free, own_kinds))
    kinds = best if said.gains else own_kinds
    return Mix(kinds=kinds, said=replace(said, types=_by_type(kinds)))


def fit(tensors: Mapping[str, Tensor], own: Mapping[str, OwnMix], size: int) -> tuple[str, Mix | None]:
    """Return the types of least cost in a file of at most ``size`` bytes, and which of the tool's mixes has the rest.

    A tensor stays as it is in the largest mix that fits, or in the smallest of all, where its type there is none of
    those that were tried. Where a mix of the tool's has no more bytes and costs less than what is found, it is taken.
    The types are None where none is free: then the tool's mix is the file. Raises TooSmall.
    """
    fitting = {name: mix for name, mix in own.items() if mix.size <= size}
    rest = max(fitting, key=lambda n: own[n].size) if fitting else min(own, key=lambda n: own[n].size)
    free = {name: t for name, t in tensors.items() if own[rest].kinds[name] in t.costs}
    choices = {name: [t.choice(kind) for kind in t.costs] for name, t in free.items()}
    fixed = own[rest].size - sum(t.sizes[own[rest].kinds[name]] for name, t in free.items())
    least, most = fixed + smallest(choices), fixed + largest(choices)
    if not free:
        least, most = min(mix.size for mix in own.values()), max(mix.size for mix in own.values())
    if least > size:
        raise TooSmall(f"{size:,} bytes is too small: a file of it may have {least:,} to {most:,}")
    if not free:
        return rest, None
    kinds = {name: str(choice.kind) for name, choice in allocate(choices, size - fixed).items()}
    cost, rival = _total(free, kinds), _cheapest(free, fitting)
    said = TypesByCost(predicted_kl=float(cost.mean()), own_kl=None, error=0.0, types={})
    if rival is not None:
        theirs = {name: own[rival].kinds[name] for name in free}
        rival_cost = _total(free, theirs)
        if rival_cost.mean() < cost.mean():
            kinds, cost, rest = theirs, rival_cost, rival
        said = replace(_compared(cost, rival_cost), own=rival)
    return rest, Mix(kinds=kinds, said=replace(said, types=_by_type(kinds)))


def _cheapest(tensors: Mapping[str, Tensor], mixes: Mapping[str, OwnMix]) -> str | None:
    """Return which of the tool's mixes costs least, of those whose types were all tried; None of none."""
    costs = {
        name: float(_total(tensors, mix.kinds).mean())
        for name, mix in mixes.items()
        if all(mix.kinds[tensor] in t.costs for tensor, t in tensors.items())
    }
    return min(costs, key=lambda name: costs[name]) if costs else None


@dataclass(frozen=True, kw_only=True)
class Mixer:
    """Tries types on the matrices of a release, with the solver of all formats."""

    sensitivities: Sensitivities
    moments: Moments
    threads: int
    progress: Callable[[int, int], None]

    def choose(self, types: Mapping[str, Mapping[str, Levels]], own: Mapping[str, str]) -> Mix | None:
        """Return the types of least cost in the bytes of the tool's ``own`` ones; None where none is free.

        ``types`` are those that each matrix may have, by its name in the checkpoint.
        """
        known = {name: kinds for name, kinds in types.items() if name in self.sensitivities}
        tensors = {}
        with ThreadPoolExecutor(self.threads) as pool:
            tried = pool.map(lambda name: self._costs(name, known[name]), known)
            for done, (name, found) in enumerate(zip(known, tried, strict=True), 1):
                self.progress(done, len(known))
                sizes = {kind: levels.size for kind, levels in known[name].items()}
                tensors[name] = Tensor(sizes=sizes, costs=found)
        return choose(tensors, own)

    def _costs(self, matrix: str, types: Mapping[str, Levels]) -> dict[str, Array]:
        rows = self.sensitivities.rows(matrix)
        factors = self.moments.factors(matrix, rows.shape[1])
        errors = {}
        for kind, levels in types.items():
            single = plainly(rows, levels.grid).values - rows
            solves = levels.solved and matrix in self.moments
            solved = solve(rows, factors, levels.grid).values - rows if solves else single
            errors[kind] = single, solved
        return costs(matrix, errors, self.sensitivities, self.moments)


def mixer_with(task: BuildTask, report: Reporter) -> Mixer:
    """Return what chooses types for a task. Raises ValueError for one without sensitivities."""
    if not task.sensitivities:
        raise ValueError("types are chosen by cost, and the task has no sensitivities")
    return Mixer(
        sensitivities=Sensitivities(Path(task.sensitivities)),
        moments=Moments(Path(task.moments)),
        threads=task.threads,
        progress=lambda done, total: report.progress("trying types", done, total, "matrices"),
    )


def costs(
    matrix: str, errors: Mapping[str, tuple[Array, Array]], sensitivities: Sensitivities, moments: Moments
) -> dict[str, Array]:
    """Return what each type costs a matrix, from errors of its sampled rows: weight by weight, and as in the file."""
    left = _left(matrix, list(errors.values()), moments)
    return {
        kind: sensitivities.cost(matrix, Errors(single=single, solved=solved, left=part))
        for (kind, (single, solved)), part in zip(errors.items(), left, strict=True)
    }


def _left(matrix: str, errors: Sequence[tuple[Array, Array]], moments: Moments) -> list[float]:
    """Return what part of the weighted error the solver left, by type."""
    if matrix not in moments:
        return [1.0] * len(errors)
    each = weighted(matrix, np.concatenate([e for pair in errors for e in pair]), moments)
    single, solved = each.reshape(len(errors), 2, -1).sum(axis=2).T
    return [float(part) for part in np.divide(solved, single, out=np.ones_like(single), where=single > 0)]


def _compared(ours: Array, own: Array) -> TypesByCost:
    """Say what two mixes cost, from what they cost in each window. One window alone says nothing of the error."""
    gain = own - ours
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else float(own.mean())
    return TypesByCost(predicted_kl=float(ours.mean()), own_kl=float(own.mean()), error=error, types={})


def _by_type(kinds: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, kind in sorted(kinds.items()):
        found.setdefault(kind, []).append(name)
    return {kind: tuple(names) for kind, names in sorted(found.items())}


def _total(tensors: Mapping[str, Tensor], kinds: Mapping[str, str]) -> Array:
    return np.sum([tensor.costs[kinds[name]] for name, tensor in sorted(tensors.items())], axis=0)
