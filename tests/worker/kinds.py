"""Small checkpoints of the kinds of Phi that the sample is not: random weights, and the sample's tokenizer."""

import json
import shutil
from pathlib import Path

from bot.records.artifacts import Json
from bot.toolchains import Toolchain
from tests.worker.running import run_python

_SHAPE: dict[str, Json] = {
    "bos_token_id": 1,
    "eos_token_id": 2000,
    "pad_token_id": 2000,
    "hidden_size": 256,
    "intermediate_size": 320,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 2048,
    "torch_dtype": "bfloat16",
}
_PHI3: dict[str, Json] = _SHAPE | {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
KINDS: dict[str, dict[str, Json]] = {
    # Every layer attends to the last 100 positions; windows of the reference are longer.
    "phi-3-mini-4k": _PHI3
    | {
        "max_position_embeddings": 1024,
        "original_max_position_embeddings": 1024,
        "rope_scaling": None,
        "sliding_window": 100,
    },
    # As a fine-tune may come: two equal lengths are not there to say that there is no LongRoPE.
    "phi-4": _PHI3 | {"max_position_embeddings": 1024, "rope_scaling": None, "sliding_window": None},
    "phi-4-mini": _PHI3
    | {
        "max_position_embeddings": 2048,
        "original_max_position_embeddings": 300,
        "partial_rotary_factor": 0.75,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0 + 0.02 * i for i in range(24)],
            "long_factor": [1.5 + 0.3 * i for i in range(24)],
        },
        "sliding_window": 262144,
        "tie_word_embeddings": True,
    },
    "phi-2": _SHAPE
    | {
        "architectures": ["PhiForCausalLM"],
        "model_type": "phi",
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 1024,
        "num_key_value_heads": 4,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    "phi-3.5-moe": _PHI3
    | {
        "architectures": ["PhiMoEForCausalLM"],
        "model_type": "phimoe",
        "attention_bias": True,
        "lm_head_bias": True,
        "max_position_embeddings": 2048,
        "original_max_position_embeddings": 300,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0 + 0.02 * i for i in range(32)],
            "long_factor": [1.5 + 0.3 * i for i in range(32)],
            "short_mscale": 1.24,
            "long_mscale": 1.24,
            "original_max_position_embeddings": 300,
        },
        "sliding_window": 2047,
    },
}

_LLAMA = _PHI3 | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "num_key_value_heads": 1,
    "pad_token_id": None,
}
#: Copies of a Phi (bot/source/copies.py): what workers get of them is a Phi-3, so they are none of the KINDS.
COPIES: dict[str, dict[str, Json]] = {
    "llama": _LLAMA | {"rope_theta": 250000.0},
    "llama-longrope": _LLAMA
    | {
        "num_key_value_heads": 4,
        "original_max_position_embeddings": 300,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0 + 0.02 * i for i in range(32)],
            "long_factor": [1.5 + 0.3 * i for i in range(32)],
        },
    },
    "mistral": {k: v for k, v in _LLAMA.items() if k != "head_dim"}
    | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 100},
}

_MAKE = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(sys.argv[1]), dtype=torch.float32)
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.08)
model.to(torch.bfloat16).save_pretrained(sys.argv[2])
"""


def make(kind: str, sample: Path, toolchain: Toolchain, folder: Path) -> Path:
    """Make a checkpoint of a kind in a new folder, which has transformers in its toolchain."""
    shutil.copytree(sample, folder)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").chmod(0o644)
    (folder / "config.json").write_text(json.dumps((KINDS | COPIES)[kind]))
    saved = folder.with_suffix(".saved")
    run_python(toolchain, _MAKE, folder, saved)
    (saved / "model.safetensors").rename(folder / "model.safetensors")
    shutil.rmtree(saved)
    return folder
