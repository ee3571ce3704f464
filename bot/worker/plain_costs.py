"""What plain rounding (see plain.py) costs a model, measured while its reference is computed. Needs torch."""

from collections.abc import Sequence
from typing import Any

import torch

from bot.records.artifacts import Json
from bot.worker import plain
from bot.worker.distance import Comparison
from bot.worker.streaming import Reading, Rounded
from bot.worker.windows import MIXED, Window

Array = Any  # neither torch nor numpy is installed where mypy runs

_TOKENS = 32  # of one window of each kind: by them, rounding takes at most a third of the reference's time


class PlainCosts:
    """The distance of a model, plainly rounded to each class, from itself, at the beginnings of some windows.

    ``rounded`` is what has to be run. After that the weights of the output matrix are taken as they are read.
    """

    def __init__(self, windows: Sequence[Window], stored_as: set[str]) -> None:
        """Choose the first window of each kind. ``stored_as`` are the types that matrices have in the files."""
        first = {w.kind: (n, w) for n, w in reversed(list(enumerate(windows))) if w.kind != MIXED}
        self._chosen = sorted(n for n, _ in first.values())
        self._windows = [windows[n] for n in self._chosen]
        self._at = [[i for i in w.scored if i < _TOKENS] for w in self._windows]
        self._classes = [name for name in plain.ROUNDINGS if not plain.is_exact(name, stored_as)]
        self._roundings = [plain.ROUNDINGS[name] for name in self._classes]
        self.rounded = Rounded(
            readings=[
                Reading(ids=w.ids[:_TOKENS], positions=at) for w, at in zip(self._windows, self._at, strict=True)
            ],
            roundings=self._roundings,
        )

    def begin(self, exact: Sequence[Array], rounded: Sequence[Array]) -> None:
        """Take the last hidden states of all windows, and of what had to be run."""
        chosen = zip(self._chosen, self._at, strict=True)
        self._exact = torch.cat([torch.from_numpy(exact[n][: len(at)]) for n, at in chosen])
        each, run = len(self._windows), [torch.from_numpy(r) for r in rounded]
        self._rounded = [torch.cat(run[i : i + each]) for i in range(0, len(run), each)]
        following = [[*w.ids, w.following][i + 1] for w, at in zip(self._windows, self._at, strict=True) for i in at]
        self._comparisons = [Comparison(following) for _ in self._classes]

    def take(self, weight: Array, bias: Array | None) -> None:
        """Take rows of the output matrix, and their biases where there are any."""
        matrix = torch.from_numpy(weight)
        top = plain.largest(matrix)
        expected = self._exact.numpy() @ weight.T
        for rounding, states, comparison in zip(self._roundings, self._rounded, self._comparisons, strict=True):
            got = states.numpy() @ rounding(matrix, top).numpy().T
            comparison.add(*((expected, got) if bias is None else (expected + bias, got + bias)))

    def found(self) -> dict[str, Json]:
        """Return what a reference says of it: see reference.py."""
        lengths = [len(at) for at in self._at]
        kl = {name: c.result()[0] for name, c in zip(self._classes, self._comparisons, strict=True)}
        none = torch.zeros(sum(lengths)).numpy()
        return {
            "plain_windows": [w.file for w in self._windows],
            "plain": {
                name: [part.tolist() for part in torch.from_numpy(kl.get(name, none)).split(lengths)]
                for name in (*plain.ROUNDINGS, "fp32")
            },
        }
