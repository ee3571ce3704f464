"""The reference: what the original model says on the shipped texts, computed once per release.

The folder holds ``reference.json`` and, for each window of text, a NumPy file of natural log-probabilities, float32
of shape (scored positions, vocabulary). What is in the JSON:

- ``version``, ``vocabulary``;
- ``tokenizer``: ``texts``, and ``ids`` of each, special tokens in the text recognised and none added;
- ``windows``: a list of ``side`` (``short`` or ``long``), ``ids``, ``first_scored`` (a position) and ``file``;
- ``prompts``: a list of ``text`` (with the chat template, where there is one), ``ids`` and ``max_new_tokens``;
- ``greedy``: what the original answers to each prompt, without the stop token; ``stop_ids``: what ends an answer.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bot import texts
from bot.records import Json
from bot.workers.harness import ReferenceTask, Reporter, SourceProblem, main
from bot.workers.original import first_bad_weight, load_model, load_tokenizer

Array = Any  # neither torch nor numpy is installed where mypy runs

_VERSION = 1
_WINDOW = 256  # positions of a short window, and those scored of a long one
_UNSCORED = 4  # positions at the start of a window that say more about the start than about the model
_NEW_TOKENS = 32
_ROWS = 64  # positions whose logarithms are taken at once: 64 x 200,064 float64 are 102 MB


@dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive tokens of the text, and the first position whose prediction counts."""

    side: Literal["short", "long"]
    ids: tuple[int, ...]
    first_scored: int
    file: str


def compute(task_json: Json, report: Reporter) -> Json:
    """Compute the reference of a model and leave it in the task's folder; return its number of scored positions.

    Raises SourceProblem when the model cannot be read, or does not give finite numbers.
    """
    task = ReferenceTask.from_json(task_json)
    source, out = Path(task.source), Path(task.out)
    torch.set_num_threads(task.threads)
    report.progress("loading the original", 0, 1, "files")
    tokenizer, model = load_tokenizer(source), load_model(source)
    report.progress("loading the original", 1, 1, "files")

    windows = windows_of(
        encode(tokenizer, texts.evaluation()),
        first=_beginning(tokenizer),
        switch=longrope_switch(model.config.to_dict()),
        short_windows=task.short_windows,
    )
    _read_windows(model, windows, out, report)
    prompts = [_prompt(tokenizer, messages) for messages in texts.prompts()]
    stop_ids = _stop_ids(model, tokenizer)
    report.progress("answering prompts", 0, len(prompts), "steps")
    answers = _greedy(model, prompts, stop_ids)
    report.progress("answering prompts", len(prompts), len(prompts), "steps")
    strings = texts.tokenizer()
    reference = {
        "version": _VERSION,
        "vocabulary": model.config.vocab_size,
        "tokenizer": {"texts": strings, "ids": [encode(tokenizer, t) for t in strings]},
        "windows": [
            {"side": w.side, "ids": list(w.ids), "first_scored": w.first_scored, "file": w.file} for w in windows
        ],
        "prompts": prompts,
        "stop_ids": stop_ids,
        "greedy": answers,
    }
    (out / "reference.json").write_text(json.dumps(reference), encoding="utf-8")
    return {"scored": sum(len(w.ids) - w.first_scored for w in windows)}


def windows_of(ids: Sequence[int], *, first: Sequence[int], switch: int | None, short_windows: int) -> list[Window]:
    """Cut windows out of a text of ``ids``.

    Each begins with the ids ``first`` (the beginning of text, where the tokenizer adds one). Short windows lie evenly
    over the text, so that each kind of text in it has its part. With a LongRoPE ``switch`` they stay below it, and one
    long window passes it by 256 positions, which are the ones that count; a text too short for it is repeated.
    """
    body = min(_WINDOW, switch or _WINDOW) - len(first)
    last = max(len(ids) - body, 0)
    starts = [last * n // max(short_windows - 1, 1) for n in range(short_windows)]
    windows = [
        Window(side="short", ids=(*first, *ids[s : s + body]), first_scored=_UNSCORED, file=f"short-{n}.npy")
        for n, s in enumerate(starts)
    ]
    if switch is not None:
        wanted = switch + _WINDOW - len(first)
        text = list(ids) * -(-wanted // len(ids))
        windows.append(Window(side="long", ids=(*first, *text[:wanted]), first_scored=switch, file="long-0.npy"))
    return windows


def longrope_switch(config: dict[str, Json]) -> int | None:
    """Return the number of positions past which a config asks for the long rotary factors, or None if it never does."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not rope.get("long_factor"):
        return None
    switch = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return int(switch) if switch else None


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a text: special tokens in it recognised, none added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, verbose=False)
    return ids


def _beginning(tokenizer: Any) -> list[int]:
    """Return what the tokenizer puts before a text by itself: the beginning-of-text token, or nothing."""
    bare = encode(tokenizer, "a")
    ids: list[int] = tokenizer.encode("a")
    return ids[: ids.index(bare[0])]


def _read_windows(model: Any, windows: list[Window], out: Path, report: Reporter) -> None:
    total, done = sum(len(w.ids) for w in windows), 0
    for window in windows:
        read = _Reading(model, len(window.ids), done, total, report)
        np.save(out / window.file, _log_probabilities(model, window), allow_pickle=False)
        read.end()
        done += len(window.ids)


class _Reading:
    """Tells how far a window is, layer by layer: the long window of a large model takes minutes."""

    def __init__(self, model: Any, tokens: int, before: int, total: int, report: Reporter) -> None:
        self._layers_done, self._tokens, self._before, self._total = 0, tokens, before, total
        self._report = report
        self._layers = model.base_model.layers
        self._hooks = [layer.register_forward_hook(self._layer_done) for layer in self._layers]

    def _layer_done(self, *_: Any) -> None:
        self._layers_done += 1
        done = self._before + self._tokens * self._layers_done // len(self._layers)
        self._report.progress("reading the evaluation text", done, self._total, "tokens")

    def end(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _log_probabilities(model: Any, window: Window) -> Array:
    scored = len(window.ids) - window.first_scored
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([window.ids]), use_cache=False, logits_to_keep=scored).logits[0]
    if not torch.isfinite(logits).all():
        tensor = first_bad_weight(model)
        where = f"{tensor} holds NaN or infinity" if tensor else "no tensor does"
        raise SourceProblem(f"the weights give numbers that are not finite ({where})")
    result = np.empty(tuple(logits.shape), dtype=np.float32)
    for i in range(0, scored, _ROWS):
        result[i : i + _ROWS] = torch.log_softmax(logits[i : i + _ROWS].double(), dim=-1).float().numpy()
    return result


def _prompt(tokenizer: Any, messages: list[dict[str, str]]) -> dict[str, Json]:
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        text = messages[-1]["content"]
    return {"text": text, "ids": encode(tokenizer, text), "max_new_tokens": _NEW_TOKENS}


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    stop = model.generation_config.eos_token_id
    ids = {*(stop if isinstance(stop, list) else [stop]), tokenizer.eos_token_id}
    return sorted(i for i in ids if i is not None)


def _greedy(model: Any, prompts: list[dict[str, Json]], stop_ids: list[int]) -> list[list[int]]:
    """Answer all prompts at once, padded on the left: each step reads all weights, however many prompts there are."""
    longest = max(len(p["ids"]) for p in prompts)
    missing = [longest - len(p["ids"]) for p in prompts]
    pad = stop_ids[0] if stop_ids else 0
    answers = model.generate(  # under no_grad by itself
        torch.tensor([[pad] * n + p["ids"] for n, p in zip(missing, prompts, strict=True)]),
        attention_mask=torch.tensor([[0] * n + [1] * (longest - n) for n in missing]),
        max_new_tokens=_NEW_TOKENS,
        do_sample=False,
        eos_token_id=stop_ids or None,
        pad_token_id=pad,
    )[:, longest:]
    return [list(itertools.takewhile(lambda i: i not in stop_ids, answer)) for answer in answers.tolist()]


if __name__ == "__main__":
    main({"compute": compute})
