"""Running ONNX in onnxruntime-genai."""

import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from bot.records import Json, Variant
from bot.tasks import VerifyTask
from bot.workers.runtime import Logits
from bot.workers.windows import longrope_switch

Array = Any  # numpy is not installed where mypy runs

_PIECE = 512  # positions whose logits the runtime holds at once: 410 MB with 200,064 tokens
_DEVICES = {
    "cuda": ("an NVIDIA GPU", "CUDAExecutionProvider"),
    "dml": ("a GPU with DirectX 12 on Windows", "DmlExecutionProvider"),
    "webgpu": ("a GPU and WebGPU", "WebGpuExecutionProvider"),
}


def send_nothing() -> None:
    """Let onnxruntime send nothing, and keep nothing about its use."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class Runtime:
    """A folder in onnxruntime-genai, on the device that it was built for.

    ``switch`` is the number of positions past which the model takes its long rotary factors, or None.
    """

    name = f"onnxruntime-genai {importlib.metadata.version('onnxruntime-genai')}"
    other_settings: Mapping[str, Logits] = {}

    def __init__(self, folder: Path, threads: int, switch: int | None) -> None:
        import onnxruntime_genai as og

        og.disable_telemetry_events()
        self._og, self._switch = og, switch
        config = og.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)
        self._special = _special_tokens(folder / "tokenizer.json")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return [int(i) for i in self._tokenizer.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens in full.

        The runtime's decoder leaves special tokens out, whatever it is told, so their text is taken from the
        tokenizer's file. Of a SentencePiece tokenizer it keeps the space that was put before the text, unless a special
        token comes first.
        """
        text = ""
        for special, run in groupby(ids, key=self._special.__contains__):
            if special:
                text += "".join(self._special[i] for i in run)
            else:
                first = list(self._special)[:1] if not text else []
                text += str(self._tokenizer.decode(np.array([*first, *run], dtype=np.int32)))
        return text

    def render(self, messages: list[Json], *, tools: list[Json] | None, add_generation_prompt: bool) -> str:
        """Return a conversation as the chat template in the folder writes it, rendered by the runtime."""
        given = {} if tools is None else {"tools": json.dumps(tools)}
        rendered = self._tokenizer.apply_chat_template(
            json.dumps(messages), add_generation_prompt=add_generation_prompt, **given
        )
        return str(rendered)

    def stop_ids(self) -> set[int]:
        """Return the ids at which the runtime ends generating by itself."""
        return {int(i) for i in self._tokenizer.eos_token_ids}

    def logits(self, ids: Sequence[int], first: int) -> Array:
        """Run the ids from an empty context; return float32 logits of shape (len(ids) - first, vocabulary).

        The runtime holds the logits of all tokens that it is given at once, so it is given few. Only a text that
        passes the switch has to do so at once: keys that are in the cache keep the factors that they were rotated with.
        """
        start = first + 1
        if self._switch is not None and len(ids) > self._switch:
            start = max(start, self._switch + 1)
        generator = self._generator(ids[:start], len(ids) + 1)
        last = generator.get_logits()[0]
        rows = np.empty((len(ids) - first, last.shape[-1]), dtype=np.float32)
        rows[: start - first] = last if start == first + 1 else generator.get_output("logits")[0, first:]
        for at in range(start, len(ids), _PIECE):
            generator.append_tokens(np.array(ids[at : at + _PIECE], dtype=np.int32))
            rows[at - first : at - first + _PIECE] = generator.get_output("logits")[0]
        return rows

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's stop tokens, which is left out."""
        generator = self._generator(ids, len(ids) + max_new_tokens)
        while not generator.is_done():
            generator.generate_next_token()
        new = [int(i) for i in generator.get_sequence(0)[len(ids) :]]
        return new[:-1] if new and new[-1] in self.stop_ids() else new

    def _generator(self, ids: Sequence[int], max_length: int) -> Any:
        params = self._og.GeneratorParams(self._model)
        # The cache is allocated for max_length tokens; by default that is the whole context of the model.
        params.set_search_options(max_length=max_length, do_sample=False)
        generator = self._og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        return generator


def _special_tokens(file: Path) -> dict[int, str]:
    """Return the special tokens that a tokenizer's file adds, by their ids."""
    added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens") or []
    return {token["id"]: token["content"] for token in added if token["special"]}


def find_device(variant: Variant) -> None:
    """Raise RuntimeError where the device that a variant is built for cannot be had: that is not the file's fault."""
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    if variant.target in _DEVICES:
        device, provider = _DEVICES[variant.target]
        if provider not in offered:
            raise RuntimeError(f"{variant.name} needs {device}; onnxruntime here offers {', '.join(offered)}")


def load(task: VerifyTask) -> Runtime:
    """Load an artifact on the device that it was built for."""
    config = json.loads((Path(task.source) / "config.json").read_text(encoding="utf-8"))
    return Runtime(Path(task.artifact), task.threads, longrope_switch(config))
