"""OpenVINO, running: a folder in openvino-genai and in OpenVINO itself, on the CPU."""

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.tasks import VerifyTask


def send_nothing() -> None:
    """Let openvino and nncf do without the package that reports on their use; both do where it is not installed."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


class Runtime:
    """A folder in OpenVINO, on the CPU.

    Generation is openvino-genai's, with the settings it takes by itself. The logits are the model's own in float32,
    for which the same files are compiled once more; only one of the two is held at a time.
    """

    name = f"openvino-genai {importlib.metadata.version('openvino-genai')}"

    def __init__(self, folder: Path, threads: int) -> None:
        send_nothing()
        import openvino_genai

        self._folder, self._settings = folder, {"INFERENCE_NUM_THREADS": threads}
        self._tokenizer = openvino_genai.Tokenizer(str(folder))
        self._request: Any = None
        self._pipeline: Any = None

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        return str(self._tokenizer.decode(list(ids)))

    def logits(self, ids: Sequence[int]) -> Any:
        """Run the ids from an empty context; return float32 logits of shape (len(ids), vocabulary)."""
        if self._request is None:
            import openvino

            self._pipeline = None
            settings = {"INFERENCE_PRECISION_HINT": "f32", **self._settings}
            model = openvino.Core().compile_model(self._folder / "openvino_model.xml", "CPU", settings)
            self._request = model.create_infer_request()
        self._request.reset_state()
        inputs = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        taken = {i.get_any_name() for i in self._request.model_inputs}
        self._request.infer({name: value for name, value in inputs.items() if name in taken})
        return self._request.get_tensor("logits").data[0].copy()

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's stop tokens, which is left out."""
        import openvino
        import openvino_genai

        if self._pipeline is None:
            self._request = None
            self._pipeline = openvino_genai.LLMPipeline(str(self._folder), "CPU", **self._settings)
        config = self._pipeline.get_generation_config()
        config.max_new_tokens, config.do_sample = max_new_tokens, False
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(np.array([ids], dtype=np.int64)), openvino.Tensor(np.ones((1, len(ids)), dtype=np.int64))
        )
        new = [int(i) for i in self._pipeline.generate(inputs, config).tokens[0]]
        return new[:-1] if new and new[-1] in config.stop_token_ids else new


def load(task: VerifyTask) -> Runtime:
    """Load an artifact."""
    return Runtime(Path(task.artifact), task.threads)
