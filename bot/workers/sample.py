"""Make the sample checkpoint: a small model with everything that a real Phi has.

A real ``Phi3ForCausalLM`` with Phi-3.5's config keys and LongRoPE, a tokenizer of its own in all of Phi-3.5's files,
a chat template and a card; trained a little on the shipped texts, so that its predictions are sharp enough to show
what quantizing does to them. The same seed gives the same bytes on machines of one kind.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from bot import texts
from bot.records import Json
from bot.tasks import SampleTask
from bot.workers import sample_card, sample_config, sample_tokenizer, sample_training
from bot.workers.harness import Reporter, main
from bot.workers.sample_dialogue import conversations

_THREADS = 2  # fixed: the order of sums, and so the bytes, depend on it
_CONVERSATIONS = 200


@dataclass(frozen=True, kw_only=True)
class Family:
    """What sets the sample of one family of models apart from another's."""

    config: dict[str, Json]
    generation_config: dict[str, Json]
    switch: int  #: positions past which LongRoPE takes its long factors
    write_tokenizer: Callable[[Sequence[str], Path], None]  #: from texts to learn from, into a folder


FAMILIES = {
    "phi-3.5": Family(
        config=sample_config.config(),
        generation_config=sample_config.generation_config(),
        switch=sample_config.SWITCH,
        write_tokenizer=sample_tokenizer.write,
    ),
}


def make(task_json: Json, report: Reporter) -> Json:
    """Leave the checkpoint's files in the task's folder, which the caller renames when all are there.

    Returns the number of parameters, and the mean loss on held-out text in nats per token, below the switch (windows
    of 256 tokens) and past it (the last 256 of a window).
    """
    task = SampleTask.from_json(task_json)
    family, out = FAMILIES[task.family], Path(task.out)
    torch.set_num_threads(_THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(task.seed)
    logging.set_verbosity_error()

    documents, chats = texts.training(), conversations(_CONVERSATIONS, task.seed)
    family.write_tokenizer(documents + [m["content"] for chat in chats for m in chat], out)
    _write_json(out / "config.json", family.config)
    _write_json(out / "generation_config.json", family.generation_config)
    sample_card.write(out, switch=family.switch)

    tokenizer = AutoTokenizer.from_pretrained(out)
    written = [d + tokenizer.eos_token for d in documents]
    written += [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(out), dtype=torch.float32)
    sample_training.train(
        model,
        [tokenizer.encode(w, add_special_tokens=False) for w in written],
        task.seed,
        lambda done, total: report.progress("training", done, total, "steps"),
    )
    weights = {name: w.to(torch.bfloat16).contiguous() for name, w in sorted(model.state_dict().items())}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # written for its owner alone

    held_out = tokenizer.encode(texts.evaluation(), add_special_tokens=False)
    return {
        "parameters": sum(w.numel() for w in weights.values()),
        "loss": {
            "short": sample_training.loss(model, held_out, length=256, first=0),
            "long": sample_training.loss(model, held_out, length=family.switch + 256, first=family.switch),
        },
    }


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main({"make": make})
