"""GGUF, running: a file in llama.cpp as llama-cpp-python brings it, on the CPU."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bot.formats.gguf.worker import kernels
from bot.formats.gguf.worker.file import the_file
from bot.formats.gguf.worker.llama import LlamaContext, LlamaModel
from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask
from bot.sandbox import rendering
from bot.worker.runtime import Logits

Array = Any  # numpy is not installed where mypy runs

_TEMPLATES = ("tokenizer.chat_template", "tokenizer.chat_template.tool_use")
PAST_THE_SWITCH = "a context past the switch"  # as bot/formats/gguf/format.py names it


class Runtime:
    """A GGUF file in llama.cpp.

    llama.cpp chooses between a LongRoPE model's short and long factors by the context it allocates, not by the tokens
    that are in it. So each piece of work gets the smallest context that holds it: what the original would do.
    """

    def __init__(self, file: Path, threads: int) -> None:
        self.name = f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
        kernels.use_best()
        self._loaded, self._threads = _Loaded(file), threads
        self.other_settings: Mapping[str, Logits] = _other_settings(self._loaded, threads)

    @property
    def _model(self) -> LlamaModel:
        """The model, for what its overrides do not change."""
        return self._loaded.model

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return self._model.tokenize(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens in full."""
        return self._model.detokenize(ids)

    def render(self, chats: Sequence[Json]) -> list[str]:
        """Return conversations as the template in the file's metadata writes them, in llama-cpp-python's Jinja.

        A file may have a template of its own for tools, which llama.cpp then takes, as transformers does. Raises
        ValueError if there is no template.
        """
        template, for_tools = map(self._model.metadata, _TEMPLATES)
        if template is None:
            raise ValueError("the file has no chat template")
        bos, eos = (self._model.text_of(token) for token in self._model.bos_and_eos())
        given = {"template": template, "for_tools": for_tools, "bos": bos, "eos": eos}
        return rendering.texts("bot.formats.gguf.worker.rendering", given, chats)

    def stop_ids(self) -> set[int]:
        """Return the ids that llama.cpp takes for the end of generating."""
        return {token for token in range(self._model.tokens) if self._model.ends_generation(token)}

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Run the ids from an empty context; return float32 logits of some positions, as Runtime.logits.

        llama.cpp runs 256 ids at a time, and computes the logits of the positions alone.
        """
        return _read(self._loaded.overridden({}), self._threads, len(ids), ids, positions)

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue with the likeliest tokens until one at which generating ends, which is left out."""
        new: list[int] = []
        model = self._loaded.overridden({})
        with closing(LlamaContext(model, len(ids) + max_new_tokens, self._threads)) as context:
            row = context.run(ids, [len(ids) - 1])
            while len(new) < max_new_tokens and not model.ends_generation(token := int(row[-1].argmax())):
                new.append(token)
                row = context.run([token], [0])
        return new


class _Loaded:
    """A file in memory: once, whatever it is loaded with."""

    def __init__(self, file: Path) -> None:
        self._file, self._overrides = file, dict[str, int]()
        self.model = LlamaModel(file)

    def overridden(self, overrides: Mapping[str, int]) -> LlamaModel:
        """Return the model, loaded with such overrides, which are taken while loading; free it as it was before."""
        if overrides != self._overrides:
            self.model.close()
            self.model, self._overrides = LlamaModel(self._file, overrides=overrides), dict(overrides)
        return self.model


def _read(model: LlamaModel, threads: int, size: int, ids: Sequence[int], positions: Sequence[int]) -> Array:
    with closing(LlamaContext(model, size, threads)) as context:
        return context.run(ids, positions)


def _other_settings(loaded: _Loaded, threads: int) -> dict[str, Logits]:
    """Return what else people set for a model with LongRoPE: a context for long texts, which short ones get too."""
    architecture = loaded.model.metadata("general.architecture")
    key = f"{architecture}.rope.scaling.original_context_length"
    switch = int(loaded.model.metadata(key) or 0)
    longest = int(loaded.model.metadata(f"{architecture}.context_length") or 0)
    if not 0 < switch < longest:
        return {}
    past = switch + 1

    def with_long_factors(ids: Sequence[int], positions: Sequence[int]) -> Array:
        return _read(loaded.overridden({}), threads, past, ids, positions)

    def with_short_factors(ids: Sequence[int], positions: Sequence[int]) -> Array:
        return _read(loaded.overridden({key: longest}), threads, past, ids, positions)

    return {
        PAST_THE_SWITCH: with_long_factors,
        f"{PAST_THE_SWITCH} and --override-kv {key}=int:{longest}": with_short_factors,
    }


def load(task: VerifyTask) -> Runtime:
    """Load the one GGUF file of an artifact."""
    return Runtime(the_file(Path(task.artifact)), task.threads)
