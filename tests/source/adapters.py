"""Adapters as files, for tests: small Phi-3 models with numbers of their own, and what peft writes beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from tests.source.models import files, framed, sentencepiece, write

Numbers = dict[str, np.ndarray[Any, Any]]

HIDDEN, INNER, HEADS, GROUPS, ROWS, LAYERS = 16, 24, 4, 2, 24, 2
CONFIG: dict[str, Json] = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "max_position_embeddings": 64,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": GROUPS,
    "original_max_position_embeddings": 64,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": ROWS,
}
BASE = "microsoft/Phi-3.5-mini-instruct"
LORA: dict[str, Json] = {
    "auto_mapping": None,
    "base_model_name_or_path": BASE,
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 4,
    "rank_pattern": {},
    "alpha_pattern": {},
    "revision": None,
    "target_modules": ["qkv_proj"],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": False,
}
_SIZE = HIDDEN // HEADS
SHAPES = {
    "self_attn.qkv_proj": ((HEADS + 2 * GROUPS) * _SIZE, HIDDEN),
    "self_attn.q_proj": (HEADS * _SIZE, HIDDEN),
    "self_attn.k_proj": (GROUPS * _SIZE, HIDDEN),
    "self_attn.v_proj": (GROUPS * _SIZE, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_up_proj": (2 * INNER, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
FUSED = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
APART = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")


def numbers(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.random.default_rng(seed).standard_normal(shape).astype("<f4")
    return found


def base_numbers(*, tied: bool = False) -> Numbers:
    """Return the weights of a base, each of its own, as they are when they were stored in 16 bits."""
    found = {"model.embed_tokens.weight": numbers(1, ROWS, HIDDEN), "model.norm.weight": numbers(2, HIDDEN)}
    if not tied:
        found["lm_head.weight"] = numbers(3, ROWS, HIDDEN)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        found |= {f"{at}{name}.weight": numbers(10 * layer + 4 + i, *SHAPES[name]) for i, name in enumerate(FUSED)}
        found |= {f"{at}{norm}_layernorm.weight": numbers(9, HIDDEN) for norm in ("input", "post_attention")}
    return {name: decoded(encoded(values)).reshape(values.shape) for name, values in found.items()}


def pair(module: str, shape: tuple[int, int], rank: int = 4, seed: int = 5) -> Numbers:
    """Return what peft stores of a LoRA on one matrix."""
    start = f"base_model.model.{module}"
    return {
        f"{start}.lora_A.weight": numbers(seed, rank, shape[1]),
        f"{start}.lora_B.weight": numbers(seed + 1, shape[0], rank),
    }


def on_all_layers(*names: str, rank: int = 4) -> Numbers:
    """Return a LoRA on these matrices of each layer."""
    found: Numbers = {}
    for layer in range(LAYERS):
        for i, name in enumerate(names):
            found |= pair(f"model.layers.{layer}.{name}", SHAPES[name], rank, 100 + 10 * layer + 2 * i)
    return found


def encoded(values: np.ndarray[Any, Any]) -> bytes:
    """Return numbers as BF16, rounded to the nearest, of two to the even one: in integers, as no code of the bot's."""
    bits: np.ndarray[Any, Any] = values.astype("<f4").view("<u4").astype(np.int64)
    low = bits & 0xFFFF
    up = (low > 0x8000) | ((low == 0x8000) & ((bits >> 16) & 1 == 1))
    return bytes(((bits >> 16) + up).astype("<u2").tobytes())


def decoded(data: bytes) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return found


def stored(tensors: Mapping[str, np.ndarray[Any, Any]], dtype: str = "F32") -> bytes:
    """Return a safetensors file."""
    entries: dict[str, Json] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in tensors.items():
        each = encoded(values) if dtype == "BF16" else values.astype("<f2" if dtype == "F16" else "<f4").tobytes()
        entries[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(each)],
        }
        data += each
    return framed(json.dumps(entries).encode(), data)


def base_files(*, tied: bool = False, **changes: Json) -> dict[str, bytes]:
    """Return the files of a base, with keys of its config changed."""
    return files(
        config__json=json.dumps(CONFIG | {"tie_word_embeddings": tied} | changes).encode(),
        generation_config__json=b"{}",
        model__safetensors=stored(base_numbers(tied=tied), "BF16"),
        tokenizer__model=sentencepiece(),
        modeling_phi3__py=None,
    )


def adapter_files(
    tensors: Mapping[str, np.ndarray[Any, Any]] | None = None, dtype: str = "F32", **changes: Json
) -> dict[str, bytes]:
    """Return the files of an adapter, with keys of its config changed."""
    return {
        "adapter_config.json": json.dumps(LORA | changes).encode(),
        "adapter_model.safetensors": stored(on_all_layers("self_attn.qkv_proj") if tensors is None else tensors, dtype),
    }


def beside(folder: Path, tensors: Mapping[str, np.ndarray[Any, Any]], **changes: Json) -> Path:
    """Write a base into ``folder``/base, and an adapter of it into ``folder``/lora, whose path is returned."""
    write(folder / "base", base_files())
    return write(folder / "lora", adapter_files(tensors, **({"base_model_name_or_path": "../base"} | changes)))
