"""A model's last step, from hidden states to log-probabilities, done with numpy from the source's own weights.

A reference holds hidden states: of a model with 200,064 tokens they take a 65th of what its log-probabilities would.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from bot.worker.feed import Feed
from bot.worker.tensors import Tensors

Array = Any  # numpy is not installed where mypy runs

_WIDENED = 1 << 22  # weights held as float32 at once: 16 MiB


class Head:
    """The output matrix of a checkpoint, by the names that a reference gives (``weight``, and ``bias`` or None)."""

    def __init__(self, source: Path, names: Json, feed: Feed | None = None) -> None:
        self._tensors = Tensors(source, feed)
        self._weight: str = names["weight"]
        self._bias: str | None = names["bias"]

    def logits(self, hidden: Array) -> Array:
        """Return float32 logits of shape (positions, vocabulary) from hidden states of shape (positions, size)."""
        return np.concatenate(list(self.parts(hidden)), axis=-1)

    def parts(self, hidden: Array) -> Iterator[Array]:
        """Yield the logits in parts of the vocabulary, from the first token on: the matrix is read once."""
        hidden = np.asarray(hidden, dtype=np.float32)
        for weight, bias in self.matrices():
            part = hidden @ weight.T
            yield part if bias is None else part + bias

    def matrices(self) -> Iterator[tuple[Array, Array | None]]:
        """Yield the rows of the matrix, some at once, and their biases where there are any."""
        bias = None if self._bias is None else self._tensors.read(self._bias)
        vocabulary, size = self._tensors.shape(self._weight)
        step = max(_WIDENED // size, 1)
        for i in range(0, vocabulary, step):
            weight = self._tensors.read(self._weight, i, i + step)
            yield weight, None if bias is None else bias[i : i + step]
