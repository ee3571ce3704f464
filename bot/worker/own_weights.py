"""Whether a runtime computes what the weights inside its file say: held against an engine of our own, on short texts.

A file of right weights may still be wrong: a graph that leaves a step out, a number that a header gets wrong, a kernel
that fails on this processor. The distance from the original does not tell that from quantizing, which may cost more.
The distance from the same weights in float32 does: of it, all is the runtime's own rounding, and how much that may be
is computed on the very model (see engine.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from bot.records.evidence import OwnWeights
from bot.worker import distance
from bot.worker.engine import EMBEDDING, HEAD, Engine
from bot.worker.rotary import Rotary
from bot.worker.rounding import Arithmetic
from bot.worker.runtime import Runtime, expect
from bot.worker.tensors import Tensors
from bot.worker.weights import ArtifactWeight, pieces
from bot.worker.windows import longrope_switch

Array = Any  # numpy is not installed where mypy runs

_TEXTS, _LENGTH = 2, 128  # texts, and tokens of each


@dataclass(frozen=True, kw_only=True)
class TextLogits:
    """Texts, and the logits of a runtime on them: float32 of shape (positions of all texts, vocabulary or more)."""

    texts: Sequence[Sequence[int]]
    logits: Array


def ask(runtime: Runtime, reference: Json, config: Json) -> TextLogits:
    """Run a runtime on the beginnings of two of a reference's windows.

    They end before a LongRoPE switch and a sliding window, which runtimes are known to leave out.
    """
    windows = {w["kind"]: w["ids"] for w in reversed(reference["windows"]) if w["side"] == "short"}
    limits = (longrope_switch(config), config.get("sliding_window"), *map(len, windows.values()))
    length = min(_LENGTH, *(limit for limit in limits if limit))
    texts = [ids[:length] for ids in windows.values()][-_TEXTS:]
    expect(runtime, texts)
    return TextLogits(texts=texts, logits=np.concatenate([runtime.logits(t, range(len(t))).copy() for t in texts]))


class OwnWeightsCheck:
    """Takes the weights of an artifact as they are read, and says how far its runtime is from them.

    What goes wrong on the way is raised when it is asked for that.
    """

    def __init__(self, asked: TextLogits, config: Json, rotary: Rotary, arithmetic: Arithmetic) -> None:
        """Begin with the config of the source, and the angles and the arithmetic of the artifact."""
        self._asked = asked
        self._engine = Engine(config, rotary, asked.texts, arithmetic)
        self._embedding: ArtifactWeight | None = None
        self._output = False
        self._error: Exception | None = None

    def take(self, weight: ArtifactWeight, name: str, first: int, values: Array) -> None:
        """Take rows of a tensor of the source, in float32, from the row ``first`` on."""
        if self._error is not None:
            return
        if weight.output or name == f"{HEAD}.weight":
            self._output, name = True, f"{HEAD}.weight"
        elif name == f"{EMBEDDING}.weight":
            self._embedding = weight
        try:
            self._engine.take(name, first, values, weight.rounding)
        except ValueError as error:
            self._error = error

    def take_all(self, stored: Iterable[ArtifactWeight], source: Tensors) -> None:
        """Take all weights of an artifact. Of the source only names and shapes are read."""
        for weight in stored:
            for name, first, values in pieces(weight, source):
                self.take(weight, name, first, values)

    def found(self, source: Tensors, *, threads: int) -> OwnWeights:
        """Return how far the runtime is from the weights. Raises OrderError where these do not make a model."""
        if self._error is not None:  # first: an output matrix behind it was not taken any more
            raise self._error
        if not self._output and self._embedding is not None:  # one matrix is both
            for _, first, values in pieces(self._embedding, source):
                self._engine.take(f"{HEAD}.weight", first, values, self._embedding.rounding)
        exact, *rounded = (arm.reshape(-1, arm.shape[-1]) for arm in self._engine.logits())
        following = [0] * len(exact)  # not asked for
        of_runtime, *of_rounding = (
            max(float(distance.compare([exact], got, following, threads=threads)[0].mean()), 0.0)
            for got in (self._asked.logits, *rounded)
        )
        return OwnWeights(tokens=len(exact), mean_kl=of_runtime, rounding_kl=sum(of_rounding))


def judged(found: OwnWeights) -> tuple[bool, str]:
    """Say whether a runtime computes what its weights say, and in what words."""
    figures = f"mean KL {found.mean_kl:.2g} nats from its own weights in float32 over {found.tokens} tokens"
    return found.mean_kl <= found.allowed, f"{figures}; what its runtime rounds explains {found.rounding_kl:.2g}"
