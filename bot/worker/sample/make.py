"""Make a sample checkpoint: a small model of a family of Phi, with everything that a real one has.

True architecture, config keys, tokenizer and chat template, and a card; trained a little on the shipped texts, so that
its predictions are sharp enough to show what quantizing does to them. The same seed gives the same bytes on machines
of one kind.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging

from bot import texts
from bot.records.artifacts import Json
from bot.records.tasks import SampleTask
from bot.worker.harness import Reporter
from bot.worker.sample import card, towers, training
from bot.worker.sample.dialogue import Message, conversations
from bot.worker.sample.families import FAMILIES, Sample
from bot.worker.sample.files import write_weights
from bot.worker.sample.rows import VocabularyRows

Tensor = Any  # torch is not installed where mypy runs

_THREADS = 2  # fixed: the order of sums, and so the bytes, depend on it
_FEW = 4096  # ids: a vocabulary of no more is trained as it is


def make(task_json: Json, report: Reporter) -> Json:
    """Leave the checkpoint's files in the task's folder, which the caller renames when all are there.

    Returns the number of parameters and, of a model that was trained, the mean loss on held-out text in nats per token:
    ``short`` in windows of 256 tokens, and for a model with LongRoPE ``long``, past its switch (the last 256 tokens of
    a window).
    """
    task = SampleTask.from_json(task_json)
    family, out = FAMILIES[task.family], Path(task.out)
    torch.set_num_threads(_THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(task.seed)
    logging.set_verbosity_error()

    documents = texts.training()
    chats = [_thinking(chat, family.thought) for chat in conversations(family.conversations, task.seed)]
    said = [m["content"] for chat in chats for m in chat]
    family.write_tokenizer(documents + said, family.config["max_position_embeddings"], out)
    _write_json(out / "config.json", family.config)
    _write_json(out / "generation_config.json", family.generation_config)
    card.write(out, title=family.title, features=family.features, chat=family.chat)

    weights, losses = _trained(family, documents, chats, task, report)
    if family.around is not None:
        _write_json(out / "config.json", family.around)
        weights = towers.added(family.around, weights, task.seed)
    dtype = getattr(torch, family.config["torch_dtype"])
    weights = {name: w.to(dtype).contiguous() for name, w in sorted(weights.items())}
    write_weights(weights, task.shards, out)
    if task.keys == "newer":
        _renew_keys(out)
    return {"parameters": sum(w.numel() for w in weights.values()), "loss": losses}


def _thinking(chat: list[Message], thought: str) -> list[Message]:
    return [m | {"content": thought + m["content"]} if m["role"] == "assistant" else m for m in chat]


def _trained(
    family: Sample, documents: Sequence[str], chats: Sequence[list[Message]], task: SampleTask, report: Reporter
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the weights of a trained model, by the names that its repo has for them, and the losses."""
    out = Path(task.out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    written = [d + tokenizer.eos_token for d in documents] + [_written(tokenizer, chat) for chat in chats]
    ids = [tokenizer.encode(w, add_special_tokens=False) for w in written]
    held_out = tokenizer.encode(texts.evaluation(), add_special_tokens=False)

    config = AutoConfig.from_pretrained(out)
    rows = VocabularyRows.of(ids, config.vocab_size) if config.vocab_size > _FEW else None
    if rows:
        config.vocab_size, config.pad_token_id = rows.count, None
        ids, held_out = [rows.rows(document) for document in ids], rows.rows(held_out)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if rows:
        rows.share(model)
    training.train(
        model,
        ids,
        steps=family.steps,
        seed=task.seed,
        progress=lambda done, total: report.progress("training", done, total, "steps"),
    )
    sharing = rows.sharing if rows else 1
    losses = {"short": training.loss(model, held_out, length=256, first=0, sharing=sharing)}
    if family.switch:
        losses["long"] = training.loss(
            model, held_out, length=family.switch + 256, first=family.switch, sharing=sharing
        )
    weights = revert_weight_conversion(model, model.state_dict())
    if config.tie_word_embeddings:
        del weights["lm_head.weight"]
    return rows.spread(weights, task.seed) if rows else weights, losses


def _written(tokenizer: Any, chat: list[Message]) -> str:
    """Return a conversation as the model is to learn it: in its chat format, or as questions, each with its answer."""
    if tokenizer.chat_template:
        text: str = tokenizer.apply_chat_template(chat, tokenize=False)
        return text
    return "".join(
        m["content"] + (tokenizer.eos_token if m["role"] == "assistant" else "\n")
        for m in chat
        if m["role"] != "system"
    )


def _renew_keys(out: Path) -> None:
    """Let transformers write both configs anew, in the keys of its own version."""
    config = AutoConfig.from_pretrained(out)
    with torch.device("meta"):
        config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
    config.__dict__.pop("auto_map", None)
    config.save_pretrained(out)
    GenerationConfig.from_pretrained(out).save_pretrained(out)


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
