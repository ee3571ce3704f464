"""Calibrated builds, as all formats share them: the solver at work on a file, and what it made of each matrix.

Weights that make up for each other's errors are not at the nearest of their levels, so that says nothing of them (see
levels.py). But they are known exactly: what a runtime reads from the file has to be what the solver gave, before it was
packed. So a build keeps the SHA-256, in hex, of each matrix's float32 values, row by row, by its name in the
checkpoint, and verifying holds the file against it, weight by weight. An embedding that is kept as it is beside the
output matrix tied to it is not that matrix: of the latter the name is ``lm_head.weight`` then.

Such a digest says nothing of the solver itself. So some rows of each matrix are held against plain rounding while it
is built (see solve_check.py).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.records.artifacts import Variant
from bot.records.tasks import BuildTask
from bot.worker.harness import Reporter
from bot.worker.moments import Moments
from bot.worker.solve_check import Sample, require_better, sample
from bot.worker.solver import Grid, Run, Solved, plainly, solve
from bot.worker.weights import one_zero

Array = Any  # numpy is not installed where mypy runs

FILE = "solved.json"  #: in a partial folder, and beside the files of an artifact


@dataclass(frozen=True, kw_only=True)
class Solver:
    """What the solver of a build needs for any of its targets: the moments, and what runs it (see solver.solve)."""

    moments: Moments
    run: Run


def solver_with(task: BuildTask, run: Run) -> Solver | None:
    """Return the solver of a build; None of one without moments."""
    return Solver(moments=Moments(Path(task.moments)), run=run) if task.moments else None


@contextmanager
def solver_of(task: BuildTask) -> Iterator[Solver | None]:
    """Open the solver of a build, with threads of its own; None of one without moments."""
    with ThreadPoolExecutor(task.threads, thread_name_prefix="solver") as pool:
        yield solver_with(task, pool.map)


def at_work_on(variant: Variant, solver: Solver | None, folder: Path | None = None) -> "SolverAtWork | None":
    """Return the solver at work on a target; None of one that is not calibrated.

    In the ``folder`` of its partial files it keeps what is done, and goes on from that; without one, the writer does.
    Raises ValueError where a calibrated target has no solver.
    """
    if not variant.is_calibrated:
        return None
    if solver is None:
        raise ValueError(f"{variant.name} is calibrated, and its task has no moments")
    if folder is None:
        return SolverAtWork(solver, {})
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    return SolverAtWork(solver, read_solved(file) if file.exists() else {}, file)


def left_out(variant: Variant, tool: str, report: Reporter) -> bool:
    """Say whether a format's own tool has to leave a variant out, for it is calibrated, and report that as failed."""
    if variant.is_calibrated:
        report.failed(variant, f"{tool} by itself cannot build it: it is calibrated")
    return variant.is_calibrated


@dataclass(frozen=True, kw_only=True)
class RoundedRows:
    """Some rows of a matrix of the checkpoint as runtimes will compute with them, and what is checked of them."""

    matrix: str
    values: Array
    sample: Sample


class SolverAtWork:
    """The solver at work on the matrices of one file. ``done`` has those that were solved, by a killed build too."""

    def __init__(self, solver: Solver, done: Mapping[str, str], file: Path | None = None) -> None:
        """Go on where some were ``done``. ``file`` keeps that, if there is one."""
        self._solver, self._file = solver, file
        self._begun: dict[str, _Begun] = {}
        self.done = done

    @property
    def moments(self) -> str:
        """The digest of the moments."""
        return self._solver.moments.sha256

    @property
    def known(self) -> Moments:
        """The moments."""
        return self._solver.moments

    def prepare(self, matrix: str, columns: int) -> None:
        """Have ready what solving a matrix takes, before several threads ask for it."""
        self._solver.moments.factors(matrix, columns)

    def solve(self, matrix: str, rows: Array, grid: Grid) -> tuple[Solved, RoundedRows]:
        """Round rows of a matrix, given in float32. May be called in several threads, once that is prepared."""
        found = solve(rows, self._solver.moments.factors(matrix, rows.shape[1]), grid, self._solver.run)
        values = found.values
        kept = sample(rows, values, lambda at: plainly(rows[at], grid).values)
        return found, RoundedRows(matrix=matrix, values=values, sample=kept)

    def take(self, rows: RoundedRows, name: str = "") -> None:
        """Take the next rows of a matrix into account. ``name`` is that in the file, if it is another one there."""
        begun = self._begun.setdefault(name or rows.matrix, _Begun(rows.matrix))
        begun.sha256.update(one_zero(rows.values))
        begun.samples.append(rows.sample)

    @property
    def begun(self) -> Sequence[str]:
        """The names of matrices of which some rows were taken, and that are not finished."""
        return tuple(self._begun)

    def forget(self, name: str) -> None:
        """Begin a matrix anew, if it was begun."""
        self._begun.pop(name, None)

    def finish(self, name: str) -> None:
        """Say that all rows of a matrix are solved. Raises WorseThanPlainError."""
        begun = self._begun.pop(name)
        require_better(begun.matrix, begun.samples, self._solver.moments)
        self.done = {**self.done, name: begun.sha256.hexdigest()}
        if self._file is not None:
            temporary = self._file.with_suffix(".new")
            temporary.write_text(json.dumps(self.done), encoding="utf-8")
            temporary.replace(self._file)


class _Begun:
    """A matrix some rows of which are solved."""

    def __init__(self, matrix: str) -> None:
        self.matrix, self.sha256 = matrix, hashlib.sha256()
        self.samples: list[Sample] = []


def read_solved(file: Path) -> dict[str, str]:
    """Read what a build left of its solve: the digest of each matrix."""
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found
