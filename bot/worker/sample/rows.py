"""Train a model with a large vocabulary on the few thousand ids that its texts use.

Each of them has a row of its own in the embedding and in the head. All others share one row while the model learns,
which counts for as many as they are; afterwards each of them gets that row, a little changed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Tensor = Any  # torch is not installed where mypy runs

_NOISE = 0.1  # of a shared row's own spread: equal rows would all be rounded alike
_WIDE = ("embed_tokens.weight", "lm_head.weight", "lm_head.bias")


@dataclass(frozen=True, kw_only=True)
class VocabularyRows:
    """Which ids of a vocabulary have a row of their own while a model is trained: row n is that of ``used[n]``."""

    used: tuple[int, ...]
    vocabulary: int

    @classmethod
    def of(cls, documents: Iterable[Sequence[int]], vocabulary: int) -> "VocabularyRows":
        """Return the rows for documents of ids."""
        return cls(used=tuple(sorted({i for document in documents for i in document})), vocabulary=vocabulary)

    @property
    def count(self) -> int:
        """The number of rows: the last one is shared."""
        return len(self.used) + 1

    @property
    def sharing(self) -> int:
        """The number of ids that share the last row."""
        return self.vocabulary - len(self.used)

    def rows(self, ids: Sequence[int]) -> list[int]:
        """Return the row of each id."""
        of_id = {i: n for n, i in enumerate(self.used)}
        return [of_id.get(i, len(self.used)) for i in ids]

    def share(self, model: Any) -> None:
        """Let the last row of a model's head count for all ids that share it."""
        weight = torch.zeros(self.count)
        weight[-1] = math.log(self.sharing)
        model.lm_head.register_forward_hook(lambda _module, _inputs, logits: logits + weight)

    def spread(self, weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Return the weights of a trained model with a row for each id of the vocabulary."""
        generator = torch.Generator().manual_seed(seed)
        return {name: self._spread(w, generator) if name.endswith(_WIDE) else w for name, w in sorted(weights.items())}

    def _spread(self, weight: Tensor, generator: Any) -> Tensor:
        shared = weight[-1:]
        noise = torch.randn((self.vocabulary, *weight.shape[1:]), generator=generator)
        whole = shared + noise * (_NOISE * float(shared.std() if shared.numel() > 1 else 0))
        whole[list(self.used)] = weight[:-1]
        return whole
