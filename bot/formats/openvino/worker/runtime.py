"""OpenVINO, running: a folder in openvino-genai and in OpenVINO itself, on the CPU."""

import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask
from bot.sandbox import rendering
from bot.worker.runtime import Logits

Array = Any  # numpy is not installed where mypy runs

_SCORED = "scored"  # the input that says at which positions logits are wanted


def send_nothing() -> None:
    """Let openvino and nncf do without the package that reports on their use; both do where it is not installed."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


class Runtime:
    """A folder in OpenVINO, on the CPU.

    Generation is openvino-genai's, with the settings that it takes by itself but for one. The logits are the model's
    own in float32, for which the same files are compiled once more; only one of the two is held at a time.
    """

    other_settings: Mapping[str, Logits] = {}
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
        """Return the text of ids, special tokens in full."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def render(self, chats: Sequence[Json]) -> list[str]:
        """Return conversations as openvino-genai's template engine writes them."""
        return rendering.texts("bot.formats.openvino.worker.rendering", {"folder": str(self._folder)}, chats)

    def stop_ids(self) -> set[int]:
        """Return the ids at which generation ends by itself."""
        return set(self._generator().get_generation_config().stop_token_ids)

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Run the ids from an empty context; return float32 logits of some positions, as Runtime.logits.

        All ids go through the layers at once, for LongRoPE's factors are chosen for each run by the last position in
        it; the positions alone go through the output matrix. The array is the runtime's own.
        """
        if self._request is None:
            self._pipeline = None
            self._request = self._compiled().create_infer_request()
        self._request.reset_state()
        inputs = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
            _SCORED: np.array(positions, dtype=np.int64),
        }
        taken = {i.get_any_name() for i in self._request.model_inputs}
        self._request.infer({name: value for name, value in inputs.items() if name in taken})
        return self._request.get_tensor("logits").data[0]

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's stop tokens, which is left out."""
        import openvino
        import openvino_genai

        pipeline = self._generator()
        config = pipeline.get_generation_config()
        config.max_new_tokens, config.do_sample = max_new_tokens, False
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(np.array([ids], dtype=np.int64)), openvino.Tensor(np.ones((1, len(ids)), dtype=np.int64))
        )
        new = [int(i) for i in pipeline.generate(inputs, config).tokens[0]]
        return new[:-1] if new and new[-1] in config.stop_token_ids else new

    def _generator(self) -> Any:
        if self._pipeline is None:
            import openvino_genai

            # As openvino-genai schedules by itself, a prompt in one run, but without what it remembers of earlier
            # prompts: one that is timed twice would cost nothing.
            scheduler = openvino_genai.SchedulerConfig()
            scheduler.max_num_batched_tokens = sys.maxsize
            scheduler.enable_prefix_caching = False
            self._request = None
            self._pipeline = openvino_genai.LLMPipeline(
                str(self._folder), "CPU", scheduler_config=scheduler, **self._settings
            )
        return self._pipeline

    def _compiled(self) -> Any:
        import openvino

        core = openvino.Core()
        model = core.read_model(self._folder / "openvino_model.xml")
        _choose_rows(model)
        return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **self._settings})


def _choose_rows(model: Any) -> None:
    """Give a model an input: the positions that go into the product with the output matrix.

    openvino-genai does the same to compute the last position alone. Raises ValueError for a model without the product.
    """
    from openvino import Type
    from openvino import opset13 as ops

    product = model.output("logits").get_node()
    while product.get_type_name() != "MatMul":
        if product.get_type_name() not in ("Result", "Add", "Convert"):
            raise ValueError(f"the logits are made by {product.get_type_name()}, not by a product with a matrix")
        product = product.input_value(0).get_node()
    scored = ops.parameter([-1], Type.i64, name=_SCORED)
    scored.output(0).set_names({_SCORED})
    kept = ops.gather(product.input_value(0), scored, ops.constant(1, Type.i64))  # of (batch, positions, size)
    product.input(0).replace_source_output(kept.output(0))
    model.add_parameters([scored])


def load(task: VerifyTask) -> Runtime:
    """Load an artifact."""
    return Runtime(Path(task.artifact), task.threads)
