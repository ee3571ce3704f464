"""What rounding each matrix of a model costs, in nats, as files: from one backward pass. Needs numpy alone.

Let a matrix W become W + D. To second order the KL from the original is half the mean, over positions, of (gᵀ D x)²,
where x is what the matrix is multiplied with, and g the gradient of the log-probability of a token that is drawn from
the model, by what the matrix gives (Fisher information). What the errors D of one rounding cost says what those of
another do, for they have no direction of their own: in each column they count as the mean of |g|² x² there. So of each
matrix little is kept: what the errors of a probe cost, the weights of the columns, and some rows, on which a format
tries its types before it reads the model. A probe is the matrix rounded plainly.

Errors of a matrix at one position change predictions at later ones, too, together with its errors there. So the square
is to be taken of the sum over a text, which is a rare and noisy number; that of each position apart is a good one. How
many times the former is the latter is alike in all layers, so it is found for all matrices of a kind together: 1 for
most, and several times that for queries, keys and values.

The folder holds ``sensitivities.json``: ``tokens``, ``sha256`` (a digest of all that it holds) and ``matrices``, by the
name of each in the checkpoint: the file of its ``rows``, and its ``uses``. An embedding that is the output matrix too
has two. Of each use there are the file of its ``columns``, the ``nats`` of the probe in each window of the text (apart,
times that number), and whether it is a ``lookup``: the gradient of a row that is looked up is there, and no x.
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.digests import digest_of
from bot.worker.solver import Grid, plainly

Array = Any  # numpy is not installed where mypy runs

FILE = "sensitivities.json"
_ROWS = 128  # of each matrix: on so many a type's error is found to some per cent
_LEAST = 1e-300  # of a sum that is divided by
_GROUP, _BITS = 32, 4  # of the probe
_LAYER = re.compile(r"\.\d+(?=\.)")
_DIGITS = 5  # of nats: what is behind them may differ with the number of threads


def sampled(rows: int) -> Array:
    """Return which of so many rows are kept."""
    return np.unique(np.linspace(0, rows - 1, _ROWS).astype(int))


def probe(rows: Array) -> Array:
    """Return the errors of the probe on rows of float32: how far they are off when they are rounded plainly."""
    grid = Grid(bits=_BITS, group=math.gcd(rows.shape[1], _GROUP), offsets="free", stored=np.asarray)
    return plainly(rows, grid).values - rows


@dataclass(frozen=True, kw_only=True)
class Use:
    """A use of a matrix: what errors count in each of its ``columns``, and what the probe costs in each window.

    That is in nats a token: ``nats`` with the errors at each position apart, and ``together`` with those of a window.
    """

    nats: Array
    together: Array
    columns: Array
    lookup: bool = False


@dataclass(kw_only=True)
class Writer:
    """Writes sensitivities, matrix by matrix, into a folder that exists and is empty."""

    folder: Path
    tokens: int
    _matrices: dict[str, Any] = field(default_factory=dict, init=False)
    _uses: list[tuple[str, Use, dict[str, Any]]] = field(default_factory=list, init=False)
    _hashes: dict[str, str] = field(default_factory=dict, init=False)

    def add(self, matrix: str, use: Use) -> None:
        """Keep a use of a matrix."""
        uses = self._matrices.setdefault(matrix, {"rows": None, "uses": []})["uses"]
        columns = self._kept(f"{matrix.removesuffix('.weight')}-columns-{len(uses)}.npy", use.columns)
        uses.append({"columns": columns, "lookup": use.lookup})
        self._uses.append((f"{_LAYER.sub('', matrix)} {use.lookup}", use, uses[-1]))

    def add_rows(self, matrix: str, rows: Array) -> None:
        """Keep the rows of a matrix that are ``sampled``."""
        self._matrices[matrix]["rows"] = self._kept(f"{matrix.removesuffix('.weight')}-rows.npy", rows)

    def finish(self) -> str:
        """Write the index; return a digest of all that the folder holds."""
        kinds = {kind: [use for k, use, _ in self._uses if k == kind] for kind, _, _ in self._uses}
        times = {kind: _times(uses) for kind, uses in kinds.items()}
        for kind, use, said in self._uses:
            said["nats"] = [float(f"{value * times[kind]:.{_DIGITS}g}") for value in use.nats]
        sha256 = digest_of([self.tokens, self._matrices, self._hashes])
        index = {"tokens": self.tokens, "matrices": self._matrices, "sha256": sha256}
        (self.folder / FILE).write_text(json.dumps(index), encoding="utf-8")
        return sha256

    def _kept(self, name: str, values: Array) -> str:
        file = self.folder / name
        np.save(file, np.asarray(values, dtype=np.float32), allow_pickle=False)
        with file.open("rb") as opened:
            self._hashes[name] = hashlib.file_digest(opened, "sha256").hexdigest()
        return name


def _times(uses: Sequence[Use]) -> float:
    """Return how many times as much errors cost together, where that is more by two standard errors; else 1.

    A square of something that is drawn has twice the square of its mean as its variance.
    """
    shares = [float(use.together.sum()) / max(float(use.nats.sum()), _LEAST) for use in uses]
    found = sum(shares) / len(shares)
    error = found * math.sqrt(2 / sum(len(use.nats) for use in uses))
    return found if found - 2 * error > 1 else 1.0


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors of the sampled rows of a matrix: as rounded weight by weight, and as the solver left them.

    ``left`` is what part of the weighted error the solver left of the former. Where none was at work, it is 1, and both
    are the same.
    """

    single: Array
    solved: Array
    left: float = 1.0


class Sensitivities:
    """The sensitivities in a folder."""

    def __init__(self, folder: Path) -> None:
        """Read which matrices there are."""
        index = json.loads((folder / FILE).read_text(encoding="utf-8"))
        self._folder = folder
        self.sha256: str = index["sha256"]  #: of all that the folder holds
        self._matrices: dict[str, Any] = index["matrices"]

    def __contains__(self, matrix: str) -> bool:
        return matrix in self._matrices

    def rows(self, matrix: str) -> Array:
        """Return the rows that are kept of a matrix that is known, of shape (rows, columns), in float32."""
        return self._read(self._matrices[matrix]["rows"])

    def cost(self, matrix: str, errors: Errors) -> Array:
        """Return what a rounding of a known matrix costs in each window, in nats a token, from its sampled rows.

        Errors that make up for each other are not without direction: there those of single weights count, less what the
        solver gained by the moments. A row that is looked up meets no other, so there errors count as they are.
        """
        known = self._matrices[matrix]
        of_probe = np.square(probe(self._read(known["rows"])), dtype=np.float64)
        total = np.zeros(len(known["uses"][0]["nats"]))
        for use in known["uses"]:
            columns = self._read(use["columns"]).astype(np.float64)
            off = errors.solved if use["lookup"] else errors.single
            count = float((np.square(off, dtype=np.float64) @ columns).sum())
            share = count / max(float((of_probe @ columns).sum()), _LEAST)
            total += np.array(use["nats"]) * share * (1.0 if use["lookup"] else errors.left)
        return total

    def _read(self, name: str) -> Array:
        return np.load(self._folder / name, allow_pickle=False)
