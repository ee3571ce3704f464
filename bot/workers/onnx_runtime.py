"""Running ONNX in onnxruntime-genai."""

import importlib.metadata
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.tasks import VerifyTask

_DEVICES = {
    "cuda": ("an NVIDIA GPU", "CUDAExecutionProvider"),
    "dml": ("a GPU with DirectX 12 on Windows", "DmlExecutionProvider"),
    "webgpu": ("a GPU and WebGPU", "WebGpuExecutionProvider"),
}


def send_nothing() -> None:
    """Let onnxruntime send nothing, and keep nothing about its use."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class Runtime:
    """A folder in onnxruntime-genai, on the device that it was built for."""

    name = f"onnxruntime-genai {importlib.metadata.version('onnxruntime-genai')}"

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime_genai as og

        og.disable_telemetry_events()
        self._og = og
        config = og.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return [int(i) for i in self._tokenizer.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        import numpy as np

        return str(self._tokenizer.decode(np.array(ids, dtype=np.int32)))

    def logits(self, ids: Sequence[int]) -> Any:
        """Run the ids from an empty context; return float32 logits of shape (len(ids), vocabulary)."""
        return self._generator(ids, 1).get_output("logits")[0].astype("float32", copy=False)

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's stop tokens, which is left out."""
        generator = self._generator(ids, max_new_tokens)
        while not generator.is_done():
            generator.generate_next_token()
        new = [int(i) for i in generator.get_sequence(0)[len(ids) :]]
        return new[:-1] if new and new[-1] in self._tokenizer.eos_token_ids else new

    def _generator(self, ids: Sequence[int], max_new_tokens: int) -> Any:
        import numpy as np

        params = self._og.GeneratorParams(self._model)
        # The cache is allocated for max_length tokens; by default that is the whole context of the model.
        params.set_search_options(max_length=len(ids) + max_new_tokens, do_sample=False)
        generator = self._og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        return generator


def load(task: VerifyTask) -> Runtime:
    """Load an artifact. Raises RuntimeError where what it needs cannot be had."""
    send_nothing()
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    if task.variant.target in _DEVICES:
        device, provider = _DEVICES[task.variant.target]
        if provider not in offered:
            raise RuntimeError(f"{task.variant.name} needs {device}; onnxruntime here offers {', '.join(offered)}")
    return Runtime(Path(task.artifact), task.threads)
