"""MLX, running: a folder in mlx-lm. On Linux it runs on the CPU, on a Mac on its GPU."""

import importlib.metadata
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.mlx.worker import cpu
from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask
from bot.sandbox import rendering
from bot.worker.checkpoint import forbid_remote_code
from bot.worker.runtime import Logits

Array = Any  # numpy is not installed where mypy runs

_PREFILL_STEP = 2048  # tokens at once, as mlx-lm's own generation does
_ROWS = 256  # positions whose logits are computed at once: of 200,064 tokens they take 205 MB


class Runtime:
    """A folder in mlx-lm."""

    other_settings: Mapping[str, Logits] = {}

    def __init__(self, folder: Path) -> None:
        from mlx_lm import load as load_model

        forbid_remote_code()
        cpu.prepare()
        self.name = f"mlx-lm {importlib.metadata.version('mlx-lm')}"
        if cpu.on_cpu():
            self.name += " (on the CPU, measured with matrix products in float32)"
        self._folder = folder
        self._model, self._tokenizer = load_model(str(folder))
        self._ahead: dict[tuple[int, ...], Any] = {}  # texts, and their last states

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens in full.

        mlx-lm's tokenizer is asked and not its detokenizer for streams, which takes the first space for no part of
        an answer.
        """
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def render(self, chats: Sequence[Json]) -> list[str]:
        """Return conversations as mlx-lm writes them before it generates."""
        return rendering.texts("bot.formats.mlx.worker.rendering", {"folder": str(self._folder)}, chats)

    def stop_ids(self) -> set[int]:
        """Return the ids at which mlx-lm ends: those of the configs, and the tokenizer's own."""
        return {int(i) for i in self._tokenizer.eos_token_ids}

    def expect(self, texts: Sequence[Sequence[int]]) -> None:
        """Run texts of one length as one batch, whose weights are unpacked once, and keep their states."""
        lengths = {len(ids) for ids in texts}
        self._ahead = {}
        if len(texts) > 1 and len(lengths) == 1 and max(lengths) <= _PREFILL_STEP:
            [(_, hidden)] = self._steps(texts)
            self._ahead = {tuple(ids): hidden[n : n + 1] for n, ids in enumerate(texts)}

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Run the ids from an empty context, in the steps of mlx-lm's generation, with a cache.

        Return float32 logits of some positions, as Runtime.logits: the output matrix, the largest of all, is left out
        for the others.
        """
        import mlx.core as mx

        known = self._ahead.pop(tuple(ids), None)
        result: Array = None
        done = 0
        for start, hidden in self._steps([ids]) if known is None else [(0, known)]:
            wanted = [p - start for p in positions[done:] if p < start + hidden.shape[1]]
            for row in range(0, len(wanted), _ROWS):
                with cpu.float32_products():
                    part = self._output(hidden[0, mx.array(wanted[row : row + _ROWS])])
                if result is None:
                    result = np.empty((len(positions), part.shape[-1]), dtype=np.float32)
                result[done : done + len(part)] = np.asarray(part.astype(mx.float32))
                done += len(part)
            mx.clear_cache()
        return result

    def _steps(self, texts: Sequence[Sequence[int]]) -> Iterator[tuple[int, Any]]:
        """Run texts of one length; yield the position that each step begins with, and its last states."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(self._model)
        for start in range(0, len(texts[0]), _PREFILL_STEP):
            with cpu.float32_products():
                step = mx.array([ids[start : start + _PREFILL_STEP] for ids in texts])
                hidden = self._model.model(step, cache)
                mx.eval(hidden, [c.state for c in cache])
            yield start, hidden

    def _output(self, hidden: Any) -> Any:
        """Return logits, as the last step of mlx-lm's Phi models does."""
        if hasattr(self._model, "lm_head"):
            return self._model.lm_head(hidden)
        return self._model.model.embed_tokens.as_linear(hidden)

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's end tokens, which is left out.

        This is the loop of mlx-lm without its detokenizer, which fails at an id that only pads the vocabulary.
        """
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        with cpu.float32_products():
            tokens = (int(token) for token, _ in generate_step(mx.array(ids), self._model, max_tokens=max_new_tokens))
            return list(itertools.takewhile(lambda token: token not in self._tokenizer.eos_token_ids, tokens))


def load(task: VerifyTask) -> Runtime:
    """Load an artifact."""
    return Runtime(Path(task.artifact))
