"""The shape of the sample, as its config files say it. Imports no toolchain, so that tests can read it anywhere."""

import math

from bot.records import Json

PIECES = 2000  #: in tokenizer.model; the special tokens follow, as Phi-3.5's follow 32000
SPECIAL = (
    "<|endoftext|>",
    "<|assistant|>",
    "<|placeholder1|>",
    "<|placeholder2|>",
    "<|placeholder3|>",
    "<|placeholder4|>",
    "<|system|>",
    "<|end|>",
    "<|placeholder5|>",
    "<|placeholder6|>",
    "<|user|>",
)
ID = {token: PIECES + i for i, token in enumerate(SPECIAL)}
SWITCH = 512  #: positions past which LongRoPE takes its long factors; llama.cpp pads contexts to 256, so not fewer
LONGEST = 4096

# K-quants take rows in blocks of 256, and ONNX Runtime's attention kernel wants heads of 64.
_HIDDEN, _INTERMEDIATE, _LAYERS, _HEADS, _KV_HEADS = 256, 512, 4, 4, 2
_HEAD = _HIDDEN // _HEADS


def config() -> dict[str, Json]:
    """Return config.json with all keys of microsoft/Phi-3.5-mini-instruct, in the older style that it keeps."""
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
        "eos_token_id": ID["<|endoftext|>"],
        "hidden_act": "silu",
        "hidden_size": _HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": _INTERMEDIATE,
        "max_position_embeddings": LONGEST,
        "model_type": "phi3",
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": _KV_HEADS,
        "original_max_position_embeddings": SWITCH,
        "pad_token_id": ID["<|endoftext|>"],
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "long_factor": _factors(first=1.08, last=63.08),
            "short_factor": _factors(first=1.0, last=2.8),
            "type": "longrope",
        },
        "rope_theta": 10000.0,
        "sliding_window": 262144,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.43.3",
        "use_cache": True,
        "vocab_size": 64 * math.ceil((PIECES + len(SPECIAL)) / 64),
    }


def generation_config() -> dict[str, Json]:
    """Return generation_config.json: three tokens end an answer."""
    return {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": [ID["<|end|>"], ID["<|assistant|>"], ID["<|endoftext|>"]],
        "pad_token_id": ID["<|endoftext|>"],
        "transformers_version": "4.43.3",
    }


def _factors(*, first: float, last: float) -> list[float]:
    """Return a factor for each rotary frequency, rising slowly and then fast, over the span of Phi-3.5's."""
    count = _HEAD // 2
    return [round(first + (last - first) * (i / (count - 1)) ** 2, 4) for i in range(count)]
