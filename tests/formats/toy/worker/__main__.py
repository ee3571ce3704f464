"""What the worker of Toy does: build with torch, and verify in transformers."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from bot.records.digests import CONTENT_FILES
from bot.records.tasks import BuildTask, VerifyTask
from bot.sandbox import rendering
from bot.worker import measure, weights
from bot.worker.checkpoint import forbid_remote_code
from bot.worker.constants import Constant
from bot.worker.constants import of_config as constants_of_config
from bot.worker.harness import Reporter, main
from bot.worker.order import model_order
from bot.worker.rotary import Rotary, of_config
from bot.worker.rounding import Arithmetic
from bot.worker.runtime import Logits
from bot.worker.tensors import Tensors
from bot.worker.tokens import stop_ids, with_stop_ids

Array = Any  # numpy is not installed where mypy runs


def build(task_json: Json, report: Reporter) -> Json:
    """Write every tensor in the type of the recipe, and what comes with a model beside it."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    task = BuildTask.from_json(task_json)
    source = Path(task.source)
    tensors = Tensors(source)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    for done, target in enumerate(task.targets):
        report.progress("writing", done, len(task.targets), "files")
        out, dtype = Path(target.out), target.variant.options["dtype"]
        kept = {name: torch.from_numpy(tensors.read(name)).to(getattr(torch, dtype)) for name in tensors.names()}
        save_file(kept, out / "model.safetensors", metadata={"format": "pt"})
        for name in CONTENT_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, out / name)
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        ends = with_stop_ids(config.get("eos_token_id"), stop_ids(source, tokenizer))
        config |= {"torch_dtype": dtype, "eos_token_id": ends}
        (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
        report.built(target.variant)
    return {}


class Runtime:
    """A folder in transformers."""

    other_settings: Mapping[str, Logits] = {}

    def __init__(self, folder: Path) -> None:
        import torch
        import transformers

        self.name = f"transformers {transformers.__version__}"
        self._folder = folder
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        ).eval()

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def render(self, chats: Sequence[Json]) -> list[str]:
        return rendering.texts("bot.formats.toy.worker.rendering", {"folder": str(self._folder)}, chats)

    def stop_ids(self) -> set[int]:
        ends = self._model.config.eos_token_id
        return set(ends if isinstance(ends, list) else [ends])

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        import torch

        with torch.no_grad():
            hidden = self._model.model(torch.tensor([ids]), use_cache=False).last_hidden_state
            return self._model.lm_head(hidden[0, list(positions)]).numpy()

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        new: list[int] = []
        while len(new) < max_new_tokens:
            token = int(np.argmax(self.logits([*ids, *new], [len(ids) + len(new) - 1])[0]))
            if token in self.stop_ids():
                break
            new.append(token)
        return new


def inspect(task: VerifyTask) -> str:
    return f"{len(Tensors(Path(task.artifact)).names())} tensors in one file"


def load(task: VerifyTask) -> Runtime:
    forbid_remote_code()
    return Runtime(Path(task.artifact))


def stored(task: VerifyTask) -> Iterator[weights.ArtifactWeight]:
    tensors = Tensors(Path(task.artifact))
    for name in sorted(tensors.names(), key=model_order):
        yield weights.ArtifactWeight.whole(name, tensors.read(name))


def rotary(task: VerifyTask) -> Rotary:
    return of_config(_config(task))


def constants(task: VerifyTask) -> Iterator[Constant]:
    """Yield what transformers takes from the artifact's own config."""
    asked = constants_of_config(_config(task))
    return (Constant(what=what, value=number.value) for what, number in asked.items())


def _config(task: VerifyTask) -> dict[str, Json]:
    config: dict[str, Json] = json.loads((Path(task.artifact) / "config.json").read_text(encoding="utf-8"))
    return config


def arithmetic(_: VerifyTask) -> Arithmetic:
    return Arithmetic()


if __name__ == "__main__":
    hooks = measure.FormatHooks(
        inspect=inspect, load=load, stored=stored, rotary=rotary, constants=constants, arithmetic=arithmetic
    )
    main({"build": build, "verify": partial(measure.verify, hooks=hooks)})
