"""PyTorch, running: a folder in transformers, with compressed-tensors' own modules, in float32 on the processor."""

import importlib.metadata
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask
from bot.sandbox import rendering
from bot.worker.checkpoint import forbid_remote_code
from bot.worker.runtime import Logits

Array = Any  # numpy is not installed where mypy runs


class Runtime:
    """A folder in transformers."""

    other_settings: Mapping[str, Logits] = {}

    def __init__(self, folder: Path, threads: int) -> None:
        forbid_remote_code()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        torch.set_num_threads(threads)
        self.name = f"transformers {importlib.metadata.version('transformers')} (on the CPU, in float32)"
        self._folder = folder
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **given)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, **given
        ).eval()
        # The rest of what the folder says of generating is not obeyed: beams and penalties would make it another task.
        self._model.generation_config = GenerationConfig(eos_token_id=sorted(self.stop_ids()) or None)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens in full."""
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def render(self, chats: Sequence[Json]) -> list[str]:
        """Return conversations as transformers writes them."""
        return rendering.texts("bot.formats.torch.worker.rendering", {"folder": str(self._folder)}, chats)

    def stop_ids(self) -> set[int]:
        """Return the ids at which transformers ends: those of its generation config."""
        ends = self._model.generation_config.eos_token_id
        return {int(i) for i in (ends if isinstance(ends, list) else [ends]) if i is not None}

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Run the ids from an empty context; return float32 logits of some positions, as Runtime.logits.

        They go through the whole model, whose first call unpacks the weights; of the output matrix, the largest of
        all, only those rows are computed that are asked for.
        """
        import torch

        with torch.no_grad():
            kept = torch.tensor(list(positions))
            result = self._model(torch.tensor([list(ids)]), use_cache=False, logits_to_keep=kept)
            return result.logits[0].numpy()

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily by transformers' own loop until one of the model's end tokens, which is left out."""
        import torch

        prompt = torch.tensor([list(ids)])
        with torch.no_grad():
            whole = self._model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=max_new_tokens
            )
        ends = self.stop_ids()
        return list(itertools.takewhile(lambda token: token not in ends, whole[0, len(ids) :].tolist()))


def load(task: VerifyTask) -> Runtime:
    """Load an artifact."""
    return Runtime(Path(task.artifact), task.threads)
