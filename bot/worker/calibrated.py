"""Calibrated builds, as all formats share them: the solver at work on a file, and what it made of each matrix.

Weights that make up for each other's errors are not at the nearest of their levels, so that says nothing of them (see
levels.py). But they are known exactly: what a runtime reads from the file has to be what the solver gave, before it was
packed. So a build keeps the SHA-256, in hex, of each matrix's float32 values, row by row, by its name in the
checkpoint, and verifying holds the file against it, weight by weight.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.records.tasks import BuildTask
from bot.worker.moments import Moments
from bot.worker.solver import Grid, Run, Solved, solve

Array = Any  # numpy is not installed where mypy runs

FILE = "solved.json"  #: in a partial folder, and beside the files of an artifact


@dataclass(frozen=True, kw_only=True)
class Solver:
    """What the solver of a build needs for any of its targets: the moments, and threads."""

    moments: Moments
    run: Run

    def at(self, folder: Path) -> "SolverAtWork":
        """Begin a target, or go on with one, whose partial files are in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return SolverAtWork(self, folder / FILE)


@contextmanager
def solver_of(task: BuildTask) -> Iterator[Solver | None]:
    """Open the solver of a build; None of one without moments."""
    if not task.moments:
        yield None
        return
    with ThreadPoolExecutor(task.threads, thread_name_prefix="solver") as pool:
        yield Solver(moments=Moments(Path(task.moments)), run=pool.map)


class SolverAtWork:
    """The solver at work on the matrices of one file. ``done`` has those that were solved, by a killed build too."""

    def __init__(self, solver: Solver, file: Path) -> None:
        self._solver, self._file = solver, file
        self._hashes: dict[str, Any] = {}
        self.done: Mapping[str, str] = read_solved(file) if file.exists() else {}

    @property
    def moments(self) -> str:
        """The digest of the moments."""
        return self._solver.moments.sha256

    def solve(self, matrix: str, rows: Array, grid: Grid) -> Solved:
        """Round the next rows of a matrix, given in float32."""
        found = solve(rows, self._solver.moments.factors(matrix, rows.shape[1]), grid, self._solver.run)
        self._hashes.setdefault(matrix, hashlib.sha256()).update(found.values)
        return found

    def finish(self, matrix: str) -> None:
        """Say that all rows of a matrix are solved."""
        self.done = {**self.done, matrix: self._hashes.pop(matrix).hexdigest()}
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self.done), encoding="utf-8")
        temporary.replace(self._file)


def read_solved(file: Path) -> dict[str, str]:
    """Read what a build left of its solve: the digest of each matrix."""
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found
