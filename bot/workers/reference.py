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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from bot import texts
from bot.records import Json
from bot.tasks import ReferenceTask
from bot.workers.harness import Reporter, SourceProblem, main
from bot.workers.original import first_bad_weight, load_model, load_tokenizer
from bot.workers.windows import Window, longrope_switch, windows_of

Array = Any  # neither torch nor numpy is installed where mypy runs

_VERSION = 1
_NEW_TOKENS = 32
_ROWS = 64  # positions whose logarithms are taken at once: 64 x 200,064 float64 are 102 MB


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
        with _layers_reported(model, report, before=done, tokens=len(window.ids), total=total):
            np.save(out / window.file, _log_probabilities(model, window), allow_pickle=False)
        done += len(window.ids)


@contextmanager
def _layers_reported(model: Any, report: Reporter, *, before: int, tokens: int, total: int) -> Iterator[None]:
    """Say after each layer how far the text is read: the long window of a large model takes minutes."""
    layers, done = model.base_model.layers, itertools.count(1)

    def say(*_: Any) -> None:
        report.progress("reading the evaluation text", before + tokens * next(done) // len(layers), total, "tokens")

    hooks = [layer.register_forward_hook(say) for layer in layers]
    yield
    for hook in hooks:
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
    text = _rendered(tokenizer, messages) if tokenizer.chat_template else messages[-1]["content"]
    return {"text": text, "ids": encode(tokenizer, text), "max_new_tokens": _NEW_TOKENS}


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        spoken = [m for m in messages if m["role"] != "system"]
        if spoken != messages:  # some templates refuse a system message
            return _rendered(tokenizer, spoken)
        raise SourceProblem(f"the chat template cannot be rendered: {error}") from error
    return text


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    stop = model.generation_config.eos_token_id
    ids = {*(stop if isinstance(stop, list) else [stop]), tokenizer.eos_token_id}
    return sorted(i for i in ids if i is not None)


def _greedy(model: Any, prompts: list[dict[str, Json]], stop_ids: list[int]) -> list[list[int]]:
    """Answer all prompts at once, padded on the left: each step reads all weights, however many prompts there are."""
    longest = max(len(p["ids"]) for p in prompts)
    missing = [longest - len(p["ids"]) for p in prompts]
    pad = stop_ids[0] if stop_ids else 0
    # In place of the model's own, which may ask for penalties or a cache that other runtimes do not have.
    model.generation_config = GenerationConfig(
        max_new_tokens=_NEW_TOKENS, do_sample=False, eos_token_id=stop_ids or None, pad_token_id=pad
    )
    answers = model.generate(
        torch.tensor([[pad] * n + p["ids"] for n, p in zip(missing, prompts, strict=True)]),
        attention_mask=torch.tensor([[0] * n + [1] * (longest - n) for n in missing]),
    )[:, longest:]
    return [list(itertools.takewhile(lambda i: i not in stop_ids, answer)) for answer in answers.tolist()]


if __name__ == "__main__":
    main({"compute": compute})
