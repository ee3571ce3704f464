"""Running ONNX in onnxruntime-genai."""

import importlib.metadata
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from bot.formats.onnx.worker import at_once
from bot.formats.onnx.worker.files import MODEL
from bot.formats.onnx.worker.last_logits import ROWS, with_rows
from bot.records.artifacts import Json, Variant
from bot.records.tasks import VerifyTask
from bot.sandbox import rendering
from bot.worker.runtime import Logits
from bot.worker.windows import longrope_switch

Array = Any  # numpy is not installed where mypy runs

_PIECE = 128  # positions whose logits the runtime holds at once: 102 MB with 200,064 tokens
# By itself onnxruntime rounds what is multiplied with dequantized weights to 8 bits on processors, and no GPU does:
# https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/session/onnxruntime_session_options_config_keys.h
_AS_WRITTEN = {"session.qdq_matmulnbits_accuracy_level": "1"}
_DEVICES = Path(__file__).parents[1] / "devices.toml"


def send_nothing() -> None:
    """Let onnxruntime send nothing, and keep nothing about its use."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class Runtime:
    """A folder in onnxruntime-genai, on the device that it was built for, or ``on_processor``.

    Generation runs the files as they are. For logits, their graph is loaded once more with an output added (see
    last_logits.py); only one of the two is held at a time. ``switch`` is the number of positions past which the model
    takes its long rotary factors, or None; ``memory`` the bytes that all of this may take, or None. ``remarks`` say of
    which texts the logits are onnxruntime's alone, for want of memory (see at_once.py).
    """

    name = f"onnxruntime-genai {importlib.metadata.version('onnxruntime-genai')}"
    other_settings: Mapping[str, Logits] = {}

    def __init__(
        self,
        folder: Path,
        threads: int,
        switch: int | None,
        memory: int | None = None,
        *,
        on_processor: bool = False,
    ) -> None:
        import onnxruntime_genai as og

        og.disable_telemetry_events()
        self._og, self._switch, self._folder, self._threads = og, switch, folder, threads
        self._on_processor, self._entries = on_processor, _AS_WRITTEN if on_processor else {}
        self._memory = memory if on_processor or at_once.on_cpu(folder) else None
        self.remarks: list[str] = []
        self._model, self._scored = self._loaded(scored=False), False
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

    def render(self, chats: Sequence[Json]) -> list[str]:
        """Return conversations as the chat template in the folder writes them, rendered by the runtime."""
        return rendering.texts("bot.formats.onnx.worker.rendering", {"folder": str(self._folder)}, chats)

    def stop_ids(self) -> set[int]:
        """Return the ids at which the runtime ends generating by itself."""
        return {int(i) for i in self._tokenizer.eos_token_ids}

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """Run the ids from an empty context; return float32 logits of some positions, as Runtime.logits.

        The runtime is given few ids at a time, and says the logits of as many. Only a text that passes the switch has
        to do so at once: keys that are in the cache keep the factors that they were rotated with. Of those ids it says
        the last few logits, and the others are not to be had: raises ValueError for a position among them.
        """
        first = min(_PIECE, len(ids))
        if self._switch is not None and len(ids) > self._switch:
            first = max(first, self._switch + 1)
        if self._has_no_room(len(ids), first):
            self._model = None  # its memory goes before the other's is taken
            return at_once.logits(self._folder, ids, positions, self._threads, self._entries)
        if positions[0] < first - _PIECE:
            raise ValueError(f"of {first} ids at once, {_PIECE} have logits: not the one at {positions[0]}")
        generator = self._generator(ids[:first], len(ids) + 1, scored=True)
        rows: Array = None
        done = 0
        for start, end in self._pieces(generator, ids, first):
            there = generator.get_output(ROWS)[0]
            if rows is None:
                rows = np.empty((len(positions), there.shape[-1]), dtype=np.float32)
            wanted = [p - end for p in positions if start <= p < end]  # counted from the end
            rows[done : done + len(wanted)] = there[wanted]
            done += len(wanted)
        return rows

    def _has_no_room(self, positions: int, first: int) -> bool:
        """Say, and remark, whether a text takes more memory than there is, so many of its positions run at once."""
        needed = 0 if self._memory is None else at_once.memory(self._folder, positions + 1, first)
        if self._memory is None or needed <= self._memory:
            return False
        self.remarks.append(
            f"{positions} tokens were run at once by onnxruntime itself, for with its cache onnxruntime-genai would "
            f"take {needed / 1e9:.1f} GB, and {self._memory / 1e9:.1f} GB may be taken here"
        )
        return True

    def _pieces(self, generator: Any, ids: Sequence[int], first: int) -> Iterator[tuple[int, int]]:
        """Run all ids; yield from where to where, each time that the generator has run some."""
        yield 0, first
        for start in range(first, len(ids), _PIECE):
            end = min(start + _PIECE, len(ids))
            generator.append_tokens(np.array(ids[start:end], dtype=np.int32))
            yield start, end

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's stop tokens, which is left out."""
        generator = self._generator(ids, len(ids) + max_new_tokens, scored=False)
        while not generator.is_done():
            generator.generate_next_token()
        new = [int(i) for i in generator.get_sequence(0)[len(ids) :]]
        return new[:-1] if new and new[-1] in self.stop_ids() else new

    def _generator(self, ids: Sequence[int], max_length: int, *, scored: bool) -> Any:
        if self._model is None or self._scored != scored:
            self._model = None  # its memory goes before the other's is taken
            self._model, self._scored = self._loaded(scored=scored), scored
        params = self._og.GeneratorParams(self._model)
        # The cache is allocated for max_length tokens; by default that is the whole context of the model.
        params.set_search_options(max_length=max_length, do_sample=False)
        generator = self._og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        return generator

    def _loaded(self, *, scored: bool) -> Any:
        config = self._og.Config(str(self._folder))
        options = {"intra_op_num_threads": self._threads} | self._entries
        if self._on_processor:
            config.clear_providers()  # of this reading alone: the file stays as it is
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        if not scored:
            return self._og.Model(config)
        graph = with_rows(self._folder, _PIECE)  # must outlive the loading: the config refers to it and keeps no copy
        config.add_model_data(MODEL, graph)
        model = self._og.Model(config)
        del graph
        return model


def _special_tokens(file: Path) -> dict[int, str]:
    """Return the special tokens that a tokenizer's file adds, by their ids."""
    added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens") or []
    return {token["id"]: token["content"] for token in added if token["special"]}


def device_for(variant: Variant) -> str:
    """Return the name of the device that a variant is verified on: its own, or the one that it is proven on.

    Raises RuntimeError for a device that devices.toml does not have: that is not the file's fault.
    """
    import onnxruntime

    known = tomllib.loads(_DEVICES.read_text(encoding="utf-8")).get(variant.target)
    if known is None:
        raise RuntimeError(f"{variant.name} is for {variant.target}, of which onnxruntime knows nothing here")
    offered = onnxruntime.get_available_providers()
    return variant.target if known.get("provider", offered[0]) in offered else str(known["proven_on"])


def load(task: VerifyTask) -> Runtime:
    """Load an artifact on the device that it is verified on.

    Raises RuntimeError for a graph that only its own device's kernels can run, among all that the runtime raises.
    """
    config = json.loads((Path(task.source) / "config.json").read_text(encoding="utf-8"))
    folder, switch = Path(task.artifact), longrope_switch(config)
    if device_for(task.variant) == task.variant.target:
        return Runtime(folder, task.threads, switch, task.memory)
    try:
        return Runtime(folder, task.threads, switch, task.memory, on_processor=True)
    except Exception as error:  # whatever the runtime raises
        what = f"a graph for {task.variant.target} that onnxruntime cannot run on processors, where it is proven here"
        raise RuntimeError(f"{what}: {error}") from error
