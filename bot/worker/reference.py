"""The reference: what the original model says on the shipped texts, computed once per release.

The folder holds ``reference.json`` and, for each window of text, a NumPy file of the last hidden states (after the
final norm) at its scored positions, float32 of shape (positions, hidden size). The JSON holds:

- ``version``, ``vocabulary`` (rows of the output matrix);
- ``head``: the names of the source's tensors ``weight`` and ``bias`` that turn hidden states into logits (see head.py);
- ``tokenizer``: ``texts``, ``ids`` of each (special tokens in the text recognised, none added), and what those ids are
  ``decoded`` to (special tokens in full); ``unusual``: the same for each kind of unusual text, and of text with the
  model's own tokens (see own.py);
- ``chats``: a list of ``name``, ``messages``, ``tools``, ``add_generation_prompt`` and the ``text`` that the source's
  template makes of them; empty without a template;
- ``prompts``: a list of ``text`` (with the chat template, where there is one), ``ids``, ``max_new_tokens``, and
  ``silent``: whether the original's likeliest next token is one of those that end an answer;
- ``stop_ids``: what ends an answer; ``endings``: ids after which the original's likeliest next token is one of those;
- ``windows``: a list of ``side``, ``kind``, ``ids``, ``following``, ``scored`` and ``file`` (see windows.py);
- ``plain``: by precision class, how far the plainly rounded model (see plain.py) is from the original: a list of lists,
  the KL divergence in nats at the first scored positions of each of ``plain_windows``, which are files of windows.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bot import texts
from bot.records.artifacts import Json
from bot.records.tasks import ReferenceTask
from bot.worker import conversations
from bot.worker.conversations import answered_ids, encode
from bot.worker.feed import Feed
from bot.worker.harness import NotFinite, NotTaken, Reporter, Unreadable, main, peak_memory
from bot.worker.head import Head
from bot.worker.original import Original
from bot.worker.own import own_texts, shipped_texts
from bot.worker.plain_costs import PlainCosts
from bot.worker.streaming import Reading, hidden_states
from bot.worker.tokens import read_tokenizer, stop_ids
from bot.worker.windows import windows_of

Array = Any  # neither torch nor numpy is installed where mypy runs

_VERSION = 4
_ENDINGS = 3


def compute(task_json: Json, report: Reporter) -> Json:
    """Compute the reference of a model and leave it in the task's folder.

    Returns the number of ``scored`` positions, ``peak_memory`` in bytes, ``seconds``, and the ``pass_seconds`` of
    processor that one pass over the windows took in the layers. Raises SourceProblem when the model cannot be read, or
    does not give finite numbers.
    """
    started = time.monotonic()
    task = ReferenceTask.from_json(task_json)
    source, out = Path(task.source), Path(task.out)
    of_tokenizer = Path(task.tokenizer or task.source)
    torch.set_num_threads(task.threads)
    try:
        tokenizer = read_tokenizer(of_tokenizer)
    except NotTaken as error:  # what the original's own library does not read, nothing can be held against
        raise Unreadable(str(error)) from error
    asked = _asked(tokenizer, of_tokenizer)
    feed = Feed(report) if task.streamed else None
    original = Original(source, feed)
    windows = windows_of(
        {kind: encode(tokenizer, text) for kind, text in texts.evaluation_by_kind().items()},
        encode(tokenizer, texts.evaluation()),
        first=_beginning(tokenizer),
        config=original.config,
    )
    answers = sorted(answered_ids(tokenizer, asked["chats"]), key=len)[: 2 * _ENDINGS]
    contexts = [*answers, *(prompt["ids"] for prompt in asked["prompts"])]
    costs = PlainCosts(windows, original.stored_as())
    states, pass_seconds = hidden_states(
        original,
        [*(Reading(ids=w.ids, positions=w.scored) for w in windows), *_last_positions(contexts)],
        costs.rounded,
        lambda done, total: report.progress("reading the evaluation text", done, total, "layers"),
    )
    for window, of_window in zip(windows, states, strict=False):
        np.save(out / window.file, of_window, allow_pickle=False)
    read = len(windows) + len(contexts)
    costs.begin(states[: len(windows)], states[read:])
    likeliest = _likeliest(original, Head(source, original.head, feed), states[len(windows) : read], costs)
    ends = stop_ids(of_tokenizer, tokenizer)
    silent = [i in ends for i in likeliest[len(answers) :]]
    reference = (
        asked
        | costs.found()
        | {
            "prompts": [prompt | {"silent": s} for prompt, s in zip(asked["prompts"], silent, strict=True)],
            "version": _VERSION,
            "vocabulary": original.config["vocab_size"],
            "head": original.head,
            "stop_ids": ends,
            "endings": [a for a, i in zip(answers, likeliest, strict=False) if i in ends][:_ENDINGS],
            "windows": [dataclasses.asdict(w) for w in windows],
        }
    )
    (out / "reference.json").write_text(json.dumps(reference), encoding="utf-8")
    return {
        "scored": sum(len(w.scored) for w in windows),
        "peak_memory": peak_memory(),
        "seconds": round(time.monotonic() - started, 3),
        "pass_seconds": round(pass_seconds, 3),
    }


def _asked(tokenizer: Any, source: Path) -> dict[str, Json]:
    """Return what needs no weights: what the tokenizer and its template make of the shipped texts."""
    shipped, apart = shipped_texts(tokenizer, texts.tokenizer())
    unusual = texts.unusual() | apart | own_texts(tokenizer)
    return {
        "tokenizer": _tokenized(tokenizer, shipped),
        "unusual": {kind: _tokenized(tokenizer, strings) for kind, strings in unusual.items()},
    } | conversations.questions(tokenizer, source, texts.conversations(), texts.prompts())


def _tokenized(tokenizer: Any, strings: Sequence[str]) -> Json:
    ids = [encode(tokenizer, text) for text in strings]
    decoded = [tokenizer.decode(i, skip_special_tokens=False, clean_up_tokenization_spaces=False) for i in ids]
    return {"texts": strings, "ids": ids, "decoded": decoded}


def _beginning(tokenizer: Any) -> list[int]:
    """Return what the tokenizer puts before a text by itself: the beginning-of-text token, or nothing."""
    bare = encode(tokenizer, "a")
    ids: list[int] = tokenizer.encode("a")
    return ids[: ids.index(bare[0])]


def _last_positions(contexts: Sequence[Sequence[int]]) -> list[Reading]:
    """Return readings of the last position of each context, of one length: nothing behind a position counts for it."""
    longest = max(map(len, contexts), default=0)
    return [Reading(ids=[*c, *[c[-1]] * (longest - len(c))], positions=[len(c) - 1]) for c in contexts]


def _likeliest(original: Original, head: Head, states: Sequence[Array], costs: PlainCosts) -> list[int]:
    """Return the likeliest token after each of some states of shape (1, size). ``costs`` gets the output matrix, too.

    Raises NotFinite for an output matrix with a number that is not finite: it shows in the logits of any state.
    """
    any_state = np.ones((1, original.config["hidden_size"]))
    rows = np.concatenate([*states, any_state]).astype(np.float32)
    parts = []
    for weight, bias in head.matrices():
        part = rows @ weight.T
        parts.append(part if bias is None else part + bias)
        costs.take(weight, bias)
    logits = np.concatenate(parts, axis=-1)
    if not np.isfinite(logits).all():
        bad = next((n for n in original.head.values() if n and original.first_bad(n)), None)
        where = f"{bad} holds NaN or infinity" if bad else "the logits overflow"
        raise NotFinite(f"the weights give numbers that are not finite ({where})")
    return [int(i) for i in logits[:-1].argmax(axis=-1)]


if __name__ == "__main__":
    main({"compute": compute})
