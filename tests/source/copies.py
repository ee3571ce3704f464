"""Copies of a Phi as files, for tests: what Llama's and Mistral's classes have, and Phi's tokenizers."""

import json
from collections.abc import Mapping
from pathlib import Path

from bot.records.artifacts import Json
from tests.source.models import files, safetensors, write

Tensors = dict[str, tuple[str, list[int]]]

LLAMA: dict[str, Json] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 10,
    "eos_token_id": 18,
    "head_dim": 4,
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 16384,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 11,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 250000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "unsloth_fixed": True,
    "vocab_size": 32,
}
MISTRAL: dict[str, Json] = {k: v for k, v in LLAMA.items() if k not in ("attention_bias", "head_dim", "mlp_bias")} | {
    "architectures": ["MistralForCausalLM"],
    "max_position_embeddings": 4096,
    "model_type": "mistral",
    "sliding_window": 2048,
}
PHI_3 = {"<|endoftext|>": 12, "<|assistant|>": 13, "<|system|>": 18, "<|end|>": 19, "<|user|>": 22}
PHI_4 = {"<|endoftext|>": 10, "<|im_start|>": 17, "<|im_end|>": 18, "<|im_sep|>": 19}


def tokenizer_config(tokens: Mapping[str, int]) -> bytes:
    """Return a tokenizer_config.json with added tokens."""
    decoder = {str(i): {"content": token} for token, i in tokens.items()}
    return json.dumps({"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": decoder}).encode()


def tensors(config: Mapping[str, Json], dtype: str = "BF16") -> Tensors:
    """Return the tensors that such a config asks for."""
    hidden, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, list[int]] = {"model.embed_tokens": [rows, hidden], "lm_head": [rows, hidden]}
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        shapes |= {f"{layer}self_attn.{part}_proj": [keys, hidden] for part in "kv"}
        shapes |= {f"{layer}self_attn.{part}_proj": [hidden, hidden] for part in "qo"}
        shapes |= {f"{layer}mlp.{part}_proj": [inner, hidden] for part in ("gate", "up")}
        shapes |= {f"{layer}mlp.down_proj": [hidden, inner], f"{layer}input_layernorm": [hidden]}
        shapes |= {f"{layer}post_attention_layernorm": [hidden]}
    shapes["model.norm"] = [hidden]
    return {f"{name}.weight": (dtype, shape) for name, shape in sorted(shapes.items())}


def contents(
    config: Mapping[str, Json] = LLAMA, tokens: Mapping[str, int] = PHI_4, of: Tensors | None = None
) -> dict[str, bytes]:
    """Return the files of a whole copy, whose weights are in one file."""
    return files(
        config__json=json.dumps(config).encode(),
        generation_config__json=b"{}",
        model__safetensors=safetensors(tensors(config) if of is None else of),
        tokenizer_config__json=tokenizer_config(tokens),
    )


def copy(folder: Path, config: Mapping[str, Json] = LLAMA, of: Tensors | None = None) -> Path:
    """Write a copy into a new folder and return it."""
    return write(folder, contents(config, of=of))
