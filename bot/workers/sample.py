"""Make the sample checkpoint: a small Phi with everything that a real one has.

A real ``Phi3ForCausalLM`` with Phi-3.5's config keys, LongRoPE with its switch at 512 positions, a tokenizer of its
own, a chat template and a card, trained for half a minute so that its predictions are sharp enough to show what
quantizing does to them. The same seed gives the same bytes on machines of one kind.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, Phi3Config, Phi3ForCausalLM

from bot import texts
from bot.records import Json
from bot.workers import sample_card, sample_dialogue, sample_tokenizer
from bot.workers.harness import Reporter, SampleTask, main

Tensor = Any  # torch is not installed where mypy runs

_HIDDEN, _HEADS, _KV_HEADS, _LAYERS, _INTERMEDIATE = 256, 4, 2, 4, 768
_ORIGINAL, _MAXIMUM = 512, 4096  # positions: where LongRoPE switches, and the most there are
_THREADS = 2  # fixed: the order of sums, and so the bytes, depend on it


def make(task_json: Json, report: Reporter) -> Json:
    """Leave the checkpoint's files in the task's folder; return its mean loss on held-out text, in nats per token."""
    task = SampleTask.from_json(task_json)
    out = Path(task.out)
    torch.set_num_threads(_THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(task.seed)

    config = _config()
    documents = texts.training()
    conversations = sample_dialogue.conversations(600, task.seed)
    sample_tokenizer.write(documents + _spoken(conversations), out, max_length=_MAXIMUM)
    _write_json(out / "config.json", config)
    _write_json(out / "generation_config.json", _generation_config())
    tokenizer = AutoTokenizer.from_pretrained(out)

    model = Phi3ForCausalLM(Phi3Config.from_dict(dict(config)))
    stream = _stream(tokenizer, documents, conversations, task.seed)
    _train(model, stream, task.seed, report)
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in sorted(model.state_dict().items())}
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    sample_card.write(out, switch=_ORIGINAL)
    return {"parameters": sum(w.numel() for w in weights.values()), "loss": _losses(model, tokenizer)}


def _config() -> dict[str, Json]:
    """Return config.json with the keys of microsoft/Phi-3.5-mini-instruct, in its older style."""
    dims = _HIDDEN // _HEADS // 2
    return {
        "_name_or_path": "Phi-3.5-sample-instruct",
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "auto_map": {
            "AutoConfig": "configuration_phi3.Phi3Config",
            "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
        },
        "bos_token_id": 1,
        "embd_pdrop": 0.0,
        "eos_token_id": sample_tokenizer.ID["<|endoftext|>"],
        "hidden_act": "silu",
        "hidden_size": _HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": _INTERMEDIATE,
        "max_position_embeddings": _MAXIMUM,
        "model_type": "phi3",
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": _KV_HEADS,
        "original_max_position_embeddings": _ORIGINAL,
        "pad_token_id": sample_tokenizer.ID["<|endoftext|>"],
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "long_factor": [round(1.08 + 62.0 * (i / (dims - 1)) ** 2, 4) for i in range(dims)],
            "short_factor": [round(1.0 + 1.8 * (i / (dims - 1)) ** 2, 4) for i in range(dims)],
            "type": "longrope",
        },
        "rope_theta": 10000.0,
        "sliding_window": 262144,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.43.3",
        "use_cache": True,
        "vocab_size": 64 * math.ceil((sample_tokenizer.PIECES + len(sample_tokenizer.SPECIAL)) / 64),
    }


def _generation_config() -> dict[str, Json]:
    ids = sample_tokenizer.ID
    return {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": [ids["<|end|>"], ids["<|assistant|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
        "transformers_version": "4.43.3",
    }


def _spoken(conversations: list[list[dict[str, str]]]) -> list[str]:
    return [m["content"] for c in conversations for m in c]


def _stream(tokenizer: Any, documents: list[str], conversations: list[list[dict[str, str]]], seed: int) -> Tensor:
    """Return the ids of all documents and conversations in a mixed order, with the end of text after each."""
    chats = [tokenizer.apply_chat_template(c, tokenize=False) for c in conversations]
    ids = [tokenizer.encode(d + "<|endoftext|>", add_special_tokens=False) for d in documents]
    ids += [tokenizer.encode(c, add_special_tokens=False) for c in chats]
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    return torch.tensor([i for n in order.tolist() for i in ids[n]])


_STEPS = 200
_SHORT = (4, 256)  # sequences and tokens of a step below the switch
_LONG = (1, 1024)  # ... and of one that passes it
_LONG_EVERY = 4


def _batches(stream: Tensor, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for step in range(_STEPS):
        count, length = _LONG if step % _LONG_EVERY == _LONG_EVERY - 1 else _SHORT
        starts = torch.randint(len(stream) - length - 1, (count,), generator=generator).tolist()
        yield torch.stack([stream[s : s + length] for s in starts])


def _train(model: Any, stream: Tensor, seed: int, report: Reporter) -> None:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers." in n]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=0.004, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, _rate) for o in optimizers]
    model.train()
    for step, batch in enumerate(_batches(stream, seed)):
        report.progress("training", step, _STEPS, "steps")
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    report.progress("training", _STEPS, _STEPS, "steps")
    model.eval()


def _rate(step: int) -> float:
    """Return the share of the learning rate at a step: up in a twentieth, then down to nothing."""
    warm = _STEPS // 20
    return min((step + 1) / warm, (_STEPS - step) / (_STEPS - warm))


@torch.no_grad()
def _losses(model: Any, tokenizer: Any) -> dict[str, float]:
    """Return the mean loss on held-out text, in nats per token, below the switch and past it."""
    ids = torch.tensor(tokenizer.encode(texts.evaluation(), add_special_tokens=False))
    losses = {}
    for side, length in (("short", 256), ("long", 1024)):
        windows = [ids[i : i + length][None] for i in range(0, len(ids) - length, length)]
        losses[side] = sum(float(model(input_ids=w, labels=w).loss) for w in windows) / len(windows)
    return losses


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main({"make": make})
