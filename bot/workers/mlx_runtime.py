"""MLX, running: a folder in mlx-lm. On Linux it runs on the CPU, on a Mac on its GPU."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.tasks import VerifyTask
from bot.workers import mlx_cpu
from bot.workers.checkpoint import forbid_remote_code

_PREFILL_STEP = 2048  # tokens at once, as mlx-lm's own generation does


class Runtime:
    """A folder in mlx-lm."""

    def __init__(self, folder: Path) -> None:
        from mlx_lm import load as load_model

        forbid_remote_code()
        mlx_cpu.prepare()
        self.name = f"mlx-lm {importlib.metadata.version('mlx-lm')}"
        if mlx_cpu.on_cpu():
            self.name += " (on the CPU, measured with matrix products in float32)"
        self._model, self._tokenizer = load_model(str(folder))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        return str(self._tokenizer.decode(list(ids)))

    def logits(self, ids: Sequence[int]) -> Any:
        """Run the ids from an empty context, in the steps of mlx-lm's generation, with a cache.

        Return float32 logits of shape (len(ids), vocabulary).
        """
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(self._model)
        rows = []
        with mlx_cpu.float32_products():
            for start in range(0, len(ids), _PREFILL_STEP):
                step = mx.array(ids[start : start + _PREFILL_STEP])[None]
                rows.append(np.array(self._model(step, cache=cache)[0].astype(mx.float32)))
        return np.concatenate(rows)

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's end tokens, which is left out."""
        from mlx_lm import stream_generate

        responses = stream_generate(self._model, self._tokenizer, list(ids), max_tokens=max_new_tokens)
        return [int(r.token) for r in responses if r.finish_reason != "stop"]


def load(task: VerifyTask) -> Runtime:
    """Load an artifact."""
    return Runtime(Path(task.artifact))
