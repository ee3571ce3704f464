"""The reference: what the original model says on the shipped texts, computed once per release.

The folder holds ``reference.json`` and, for each window of text, the log-probabilities of the next token in a file.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bot import texts
from bot.records import Json
from bot.workers.harness import ReferenceTask, Reporter, SourceProblem, main

Array = Any  # neither torch nor numpy is installed where mypy runs

_VERSION = 1
_WINDOW = 256  # positions of a short window, and those scored of a long one
_UNSCORED = 4  # positions at the start of a window that say more about the start than about the model
_NEW_TOKENS = 32
_ROWS = 64  # positions whose logarithms are taken at once


@dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive tokens of the text, and the first position whose prediction counts."""

    side: Literal["short", "long"]
    ids: tuple[int, ...]
    first_scored: int
    file: str


def compute(task_json: Json, report: Reporter) -> Json:
    """Compute the reference of a model and leave it in the task's folder; return its number of scored positions."""
    task = ReferenceTask.from_json(task_json)
    source, out = Path(task.source), Path(task.out)
    torch.set_num_threads(task.threads)
    report.progress("loading the original", 0, 1, "files")
    tokenizer = _tokenizer(source)
    model = _model(source)
    report.progress("loading the original", 1, 1, "files")

    vocabulary = model.config.vocab_size
    windows = windows_of(
        tokenizer.encode(texts.evaluation(), add_special_tokens=False),
        first=_beginning(tokenizer),
        switch=longrope_switch(model.config.to_dict()),
        short_windows=task.short_windows,
    )
    for number, window in enumerate(windows):
        report.progress("reading the evaluation text", number, len(windows), "windows")
        np.save(out / window.file, _log_probabilities(model, window), allow_pickle=False)
    report.progress("reading the evaluation text", len(windows), len(windows), "windows")

    stop_ids = _stop_ids(model, tokenizer)
    prompts = [_prompt(tokenizer, messages) for messages in texts.prompts()]
    greedy = []
    for number, prompt in enumerate(prompts):
        report.progress("answering prompts", number, len(prompts), "steps")
        greedy.append(_greedy(model, prompt["ids"], stop_ids))
    report.progress("answering prompts", len(prompts), len(prompts), "steps")

    strings = texts.tokenizer()
    reference = {
        "version": _VERSION,
        "vocabulary": vocabulary,
        "tokenizer": {"texts": strings, "ids": [tokenizer.encode(t, add_special_tokens=False) for t in strings]},
        "windows": [
            {"side": w.side, "ids": list(w.ids), "first_scored": w.first_scored, "file": w.file} for w in windows
        ],
        "prompts": prompts,
        "stop_ids": stop_ids,
        "greedy": greedy,
    }
    (out / "reference.json").write_text(json.dumps(reference), encoding="utf-8")
    return {"scored": sum(len(w.ids) - w.first_scored for w in windows)}


def windows_of(ids: Sequence[int], *, first: Sequence[int], switch: int | None, short_windows: int) -> list[Window]:
    """Cut windows out of a text of ``ids``.

    Each begins with the ids ``first`` (the beginning of text, where the tokenizer adds one). Short windows lie evenly
    over the text, so that each kind of text in it has its part. With a LongRoPE ``switch`` they stay below it, and one
    long window passes it by 256 positions, which are the ones that count; a text too short for it is repeated.
    """
    length = min(_WINDOW, switch or _WINDOW)
    body = length - len(first)
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
    """Return the number of positions past which a config asks for the long rotary factors, or None."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not rope.get("long_factor"):
        return None
    switch = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return int(switch) if switch else None


def _tokenizer(source: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise SourceProblem(f"the tokenizer cannot be read: {_line(error)}") from error


def _model(source: Path) -> Any:
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:
        raise SourceProblem(f"the weights cannot be read: {_line(error)}") from error
    return model.eval()


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _beginning(tokenizer: Any) -> list[int]:
    """Return what the tokenizer puts before a text by itself: the beginning-of-text token, or nothing."""
    ids: list[int] = tokenizer.encode("a")
    bare: list[int] = tokenizer.encode("a", add_special_tokens=False)
    return ids[: ids.index(bare[0])]


@torch.inference_mode()
def _log_probabilities(model: Any, window: Window) -> Array:
    """Return natural log-probabilities of the scored positions, float32 of shape (scored, vocabulary)."""
    scored = len(window.ids) - window.first_scored
    output = model(input_ids=torch.tensor([window.ids]), use_cache=False, logits_to_keep=scored)
    logits = output.logits[0]
    if not torch.isfinite(logits).all():
        raise SourceProblem("the weights give numbers that are not finite (NaN or infinity)")
    result = np.empty(tuple(logits.shape), dtype=np.float32)
    for i in range(0, scored, _ROWS):
        result[i : i + _ROWS] = torch.log_softmax(logits[i : i + _ROWS].double(), dim=-1).float().numpy()
    return result


def _prompt(tokenizer: Any, messages: list[dict[str, str]]) -> Json:
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        text = messages[-1]["content"]
    return {
        "text": text,
        "ids": tokenizer.encode(text, add_special_tokens=False),
        "max_new_tokens": _NEW_TOKENS,
    }


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    stop = model.generation_config.eos_token_id
    ids = set(stop if isinstance(stop, list) else [stop]) | {tokenizer.eos_token_id}
    return sorted(i for i in ids if i is not None)


@torch.inference_mode()
def _greedy(model: Any, ids: list[int], stop_ids: list[int]) -> list[int]:
    """Continue greedily; leave out the stop token that ends it."""
    output = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=_NEW_TOKENS,
        do_sample=False,
        eos_token_id=stop_ids,
        pad_token_id=stop_ids[0],
    )[0, len(ids) :].tolist()
    return output[:-1] if output and output[-1] in stop_ids else output


if __name__ == "__main__":
    main({"compute": compute})
