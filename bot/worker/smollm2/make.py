"""Make the real model's checkpoint: Llama's weights under Phi-3's names.

Phi-3 is Llama with queries, keys and values in one matrix, and gate and up projection in another. Two things are done
to the weights. All widths are padded with zeros to multiples of 256, which the blocks of every quantizer fit: heads and
channels of zeros add nothing to what the model computes, and norms are scaled by what the longer mean takes away. And
weights that were published in 4 bits get noise, evenly spread over half a step to both sides: that is how far the
weights they were rounded from may have been, and without it 4 bits would not round at all.
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bot.records.artifacts import Json
from bot.records.tasks import RealModelTask
from bot.worker.harness import Reporter, peak_memory
from bot.worker.sample.files import write_weights
from bot.worker.smollm2 import card, tokenizer
from bot.worker.smollm2.packed import Packed

Array = Any  # neither torch nor numpy is installed where mypy runs
Tensor = Any

_HIDDEN, _HEADS, _SHARED_HEADS = 768, 12, 4  # SmolLM2 has 576, 9 and 3
_HEAD = 64


class _Weights:
    """The published weights by their names in the file, in float32, with the noise of all that was rounded."""

    def __init__(self, packed: Packed, seed: int) -> None:
        self._packed = packed
        self._bits = np.random.PCG64(seed)  # its stream is fixed for good, on every system

    def read(self, name: str) -> Array:
        found = self._packed.unpack(name)
        if not found.step.any():
            return found.weights
        even = self._bits.random_raw(found.weights.size // 2).astype("<u8").view("<u4").reshape(found.weights.shape)
        return found.weights + ((even * 2.0**-32 - 0.5) * found.step).astype(np.float32)


def make(task_json: Json, report: Reporter) -> Json:
    """Leave the checkpoint's files in the task's folder, which the caller renames when all are there.

    The same package gives the same bytes on every machine. Returns the number of ``parameters``, and ``peak_memory`` in
    bytes.
    """
    task = RealModelTask.from_json(task_json)
    out = Path(task.out)
    with zipfile.ZipFile(task.package) as package:
        largest = max(package.infolist(), key=lambda member: member.file_size)
        packed = Packed(package.read(largest))
        license_text = next(package.read(n).decode() for n in package.namelist() if n.endswith(".dist-info/LICENSE"))
    config = _config(packed.header)
    weights = {}
    for name, w in _checkpoint(packed, task.seed):
        weights[name] = torch.from_numpy(np.ascontiguousarray(w, dtype=np.float32)).to(torch.bfloat16)
        report.progress("unpacking", len(weights), 6 * config["num_hidden_layers"] + 2, "tensors")
    write_weights(dict(sorted(weights.items())), task.shards, out)
    tokenizer.write(packed.header, out)
    _write_json(out / "config.json", config)
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(out / "generation_config.json", ends | {"transformers_version": config["transformers_version"]})
    card.write(out, license_text=license_text)
    return {"parameters": sum(w.numel() for w in weights.values()), "peak_memory": peak_memory()}


def _checkpoint(packed: Packed, seed: int) -> Iterator[tuple[str, Array]]:
    """Yield Phi-3's tensors in float32."""
    read = _Weights(packed, seed).read
    embedding = read("token_embd.weight")
    yield "model.embed_tokens.weight", _padded(embedding, len(embedding), _HIDDEN)
    yield "model.norm.weight", _norm(read("output_norm.weight"))
    for n in range(packed.header["llama.block_count"]):
        theirs, ours = f"blk.{n}.", f"model.layers.{n}."
        yield f"{ours}self_attn.qkv_proj.weight", _queries_keys_values(packed, read, theirs)
        yield f"{ours}self_attn.o_proj.weight", _padded(read(f"{theirs}attn_output.weight"), _HIDDEN, _HEADS * _HEAD)
        gate, up, down = (read(f"{theirs}ffn_{part}.weight") for part in ("gate", "up", "down"))
        both = [_padded(half, len(half), _HIDDEN) for half in (gate, up)]
        yield f"{ours}mlp.gate_up_proj.weight", np.concatenate(both)
        yield f"{ours}mlp.down_proj.weight", _padded(down, _HIDDEN, down.shape[1])
        yield f"{ours}input_layernorm.weight", _norm(read(f"{theirs}attn_norm.weight"))
        yield f"{ours}post_attention_layernorm.weight", _norm(read(f"{theirs}ffn_norm.weight"))


def _queries_keys_values(packed: Packed, read: Callable[[str], Array], layer: str) -> Array:
    queries = _in_halves(read(f"{layer}attn_q.weight"), packed.header["llama.attention.head_count"])
    keys = _in_halves(read(f"{layer}attn_k.weight"), packed.header["llama.attention.head_count_kv"])
    values = read(f"{layer}attn_v.weight")
    shared = _SHARED_HEADS * _HEAD
    parts = ((queries, _HEADS * _HEAD), (keys, shared), (values, shared))
    return np.concatenate([_padded(part, rows, _HIDDEN) for part, rows in parts])


def _norm(weights: Array) -> Array:
    """Return a norm of the longer mean: with zeros among them, the mean square of the channels is smaller."""
    return _padded(weights * np.float32(math.sqrt(len(weights) / _HIDDEN)), _HIDDEN)


def _in_halves(rows: Array, heads: int) -> Array:
    """Undo the converter's order of rows: pairs that turn together are neighbours there, in Phi-3 half a head apart."""
    pairs = rows.reshape(heads, _HEAD // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _padded(weights: Array, *shape: int) -> Array:
    padded: Array = np.zeros(shape, dtype=np.float32)
    padded[tuple(slice(length) for length in weights.shape)] = weights
    return padded


def _config(header: dict[str, Json]) -> dict[str, Json]:
    """Return config.json, in the keys that Phi-3 has."""
    longest, hidden = header["llama.context_length"], header["llama.embedding_length"]
    return {
        "_name_or_path": "SmolLM2-135M-Instruct",
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": header["tokenizer.ggml.bos_token_id"],
        "embd_pdrop": 0.0,
        "eos_token_id": header["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": _HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": header["llama.feed_forward_length"],
        "max_position_embeddings": longest,
        "model_type": "phi3",
        "num_attention_heads": _HEADS,
        "num_hidden_layers": header["llama.block_count"],
        "num_key_value_heads": _SHARED_HEADS,
        "original_max_position_embeddings": longest,
        "pad_token_id": header["tokenizer.ggml.padding_token_id"],
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05 * hidden / _HIDDEN,  # of a mean over more channels
        "rope_scaling": None,
        "rope_theta": header["llama.rope.freq_base"],
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.49.0",
        "use_cache": True,
        "vocab_size": header["llama.vocab_size"],
    }


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
