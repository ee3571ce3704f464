"""Second moments of what each matrix of a model is multiplied with, as files. Needs numpy alone.

The inputs X of a matrix are the states at all positions of a text; XᵀX, of shape (columns, columns), is all that
rounding the matrix needs to know of them (see solver.py). Of Phi-4's widest matrix that is 1.3 GB, and the model has 40
of them. So columns are taken in blocks of 2,048 at most, and what columns of two blocks have in common is not kept: of
Phi-3.5-mini's shape this leaves 4 GB, of which a worker holds one matrix's.

The folder holds ``moments.json``: ``tokens`` (positions that were read), ``sha256`` (a digest of all that the folder
holds) and ``inputs``, by the name of a matrix of the checkpoint the names of files, one for each block of its columns.
These are NumPy files, float32 of shape (columns of the block, the same), the sums over all positions. Matrices that are
multiplied with the same share them.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.digests import digest_of
from bot.worker.solver import Factor, factor, unknown

Array = Any  # numpy is not installed where mypy runs

FILE = "moments.json"
_MOST = 2048  # columns of a block
WHOLE = 128  #: columns: blocks end where so many do, at whole groups of every format
_TERMS = 128  # positions summed at once, so few that no BLAS divides them among threads


def blocks(columns: int) -> list[slice]:
    """Return the blocks that so many columns are taken in."""
    count = -(-columns // _MOST)
    size = -(-columns // (count * WHOLE)) * WHOLE
    return [slice(first, min(first + size, columns)) for first in range(0, columns, size)]


class Sums:
    """The moments of one input, block by block, as states come by."""

    def __init__(self, columns: int) -> None:
        """Begin with nothing."""
        self._blocks = [(b, np.zeros((b.stop - b.start,) * 2, dtype=np.float32)) for b in blocks(columns)]

    def add(self, states: Array) -> None:
        """Add states of float32, of shape (positions, columns)."""
        for block, total in self._blocks:
            for first in range(0, len(states), _TERMS):
                some = states[first : first + _TERMS, block]
                # The copy: of one array and itself BLAS computes half, and numpy takes longer to copy that.
                np.add(total, some.T.copy() @ some, out=total)

    @property
    def finite(self) -> bool:
        """False where a sum is too large for float32."""
        return all(np.isfinite(total).all() for _, total in self._blocks)

    def write(self, folder: Path, name: str) -> dict[str, str]:
        """Write the blocks; return the SHA-256, in hex, of each file by its name."""
        written = {}
        for number, (_, total) in enumerate(self._blocks):
            file = folder / f"{name}-{number}.npy"
            np.save(file, total, allow_pickle=False)
            with file.open("rb") as opened:
                written[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
        return written


def write_index(folder: Path, *, tokens: int, inputs: dict[str, list[str]], hashes: dict[str, str]) -> str:
    """Write ``moments.json``; return a digest of all that the folder holds."""
    sha256 = digest_of([tokens, inputs, hashes])
    index = {"tokens": tokens, "inputs": inputs, "sha256": sha256}
    (folder / FILE).write_text(json.dumps(index), encoding="utf-8")
    return sha256


class Moments:
    """The moments of a folder, as factors for the solver."""

    def __init__(self, folder: Path) -> None:
        """Read which matrices there are."""
        index = json.loads((folder / FILE).read_text(encoding="utf-8"))
        self._folder = folder
        self.sha256: str = index["sha256"]  #: of all that the folder holds
        self._tokens: int = index["tokens"]
        self._inputs: dict[str, tuple[str, ...]] = {name: tuple(files) for name, files in index["inputs"].items()}
        self._factors = lru_cache(maxsize=1)(self._read)  # matrices come one after the other

    def __contains__(self, matrix: str) -> bool:
        return matrix in self._inputs

    def blocks_of(self, matrix: str) -> Iterator[Array]:
        """Yield the moments of a matrix that is known, block by block of its columns."""
        return (np.load(self._folder / name, allow_pickle=False) for name in self._inputs[matrix])

    def mean_squares(self, matrix: str) -> Array:
        """Return the mean square of each input of a matrix that is known, in float32."""
        return np.concatenate([block.diagonal() for block in self.blocks_of(matrix)]) / np.float32(self._tokens)

    def factors(self, matrix: str, columns: int) -> Sequence[Factor]:
        """Return the factors of a matrix's columns, block by block; of one that is not known, those of no knowledge."""
        if matrix not in self._inputs:
            return [unknown(block.stop - block.start) for block in blocks(columns)]
        return self._factors(self._inputs[matrix])

    def _read(self, files: tuple[str, ...]) -> Sequence[Factor]:
        return [factor(np.load(self._folder / name, allow_pickle=False)) for name in files]
