"""The shape of each sample, as its config files say it: the keys that the real repo has, in the older style it keeps.

Imports no toolchain, so that tests can read it anywhere.
"""

import math

from bot.records.artifacts import Json
from bot.worker.sample.tokens import ID, PIECES, SPECIAL

Config = dict[str, Json]

SWITCH = 512  #: positions past which LongRoPE takes its long factors; llama.cpp pads contexts to 256, so not fewer
LONGEST = 4096  #: positions of the models that have LongRoPE
WINDOW = 1023  #: positions that a sliding window sees
WINDOWED_LONGEST = 2048  #: positions of the models that have a sliding window

# K-quants take rows in blocks of 256, and ONNX Runtime's attention kernel wants heads of 64.
_HIDDEN, _HEADS = 256, 4
_HEAD = _HIDDEN // _HEADS
_PIECES = 64 * math.ceil((PIECES + len(SPECIAL)) / 64)  # ids of the SentencePiece tokenizers, filled up
_END = ID["<|endoftext|>"]
_OF_TOWERS = frozenset(
    {"audio_processor", "auto_map", "embd_layer", "freeze_mm_mlp_adapter", "image_aspect_ratio"}
    | {"img_processor", "max_num_patches", "min_num_patches", "mm_hidden_size", "mm_projector_type", "speech_lora"}
    | {"use_mm_proj", "vision_config", "vision_lora"}
)


def phi_2() -> Config:
    """Return the config of microsoft/phi-2: float16, half of each head turned, attention and MLP side by side."""
    return _sorted(
        {
            "_name_or_path": "microsoft/phi-2",
            "architectures": ["PhiForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": 50256,
            "embd_pdrop": 0.0,
            "eos_token_id": 50256,
            "hidden_act": "gelu_new",
            "hidden_size": _HIDDEN,
            "initializer_range": 0.02,
            "intermediate_size": 4 * _HIDDEN,  # llama.cpp takes no other
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": 2048,
            "model_type": "phi",
            "num_attention_heads": _HEADS,
            "num_hidden_layers": 2,
            "num_key_value_heads": _HEADS,
            "partial_rotary_factor": 0.5,  # 32 of 64 dimensions; in the real one 32 of 80
            "qk_layernorm": False,
            "resid_pdrop": 0.1,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "transformers_version": "4.37.0",
            "use_cache": True,
            "vocab_size": 51200,
        }
    )


def phi_3_mini_4k() -> Config:
    """Return the config of microsoft/Phi-3-mini-4k-instruct: every layer sees a sliding window."""
    return _windowed("Phi-3-mini-4k-instruct", heads=_HEADS, version="4.40.2")


def phi_3_medium() -> Config:
    """Return the config of microsoft/Phi-3-medium-4k-instruct: four heads share their keys and values."""
    return _windowed("Phi-3-medium-4k-instruct", heads=1, version="4.39.3")


def phi_3_mini_128k() -> Config:
    """Return the config of microsoft/Phi-3-mini-128k-instruct: LongRoPE."""
    changes = {"num_key_value_heads": _HEADS, "transformers_version": "4.40.2"}
    return _phi_3_5("Phi-3-mini-128k-instruct", **changes)


def phi_3_5_mini() -> Config:
    """Return the config of microsoft/Phi-3.5-mini-instruct: LongRoPE."""
    return _phi_3_5("Phi-3.5-sample-instruct", num_hidden_layers=4)


def phi_3_5_moe() -> Config:
    """Return the config of microsoft/Phi-3.5-MoE-instruct: two experts of four a token, biases, LongRoPE."""
    return _sorted(
        {
            "_name_or_path": "Phi-3.5-MoE-instruct",
            "architectures": ["PhiMoEForCausalLM"],
            "attention_bias": True,
            "attention_dropout": 0.0,
            "auto_map": _code("phimoe", "PhiMoE"),
            "bos_token_id": 1,
            "eos_token_id": _END,
            "hidden_act": "silu",
            "hidden_dropout": 0.0,
            "hidden_size": _HIDDEN,
            "initializer_range": 0.02,
            "input_jitter_noise": 0.01,
            "intermediate_size": 256,
            "lm_head_bias": True,
            "max_position_embeddings": LONGEST,
            "model_type": "phimoe",
            "num_attention_heads": _HEADS,
            "num_experts_per_tok": 2,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "num_local_experts": 4,
            "original_max_position_embeddings": SWITCH,
            "output_router_logits": False,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "long_factor": _factors(_HEAD, first=1.02, last=64.0),
                "long_mscale": 1.243163121016122,
                "original_max_position_embeddings": SWITCH,
                "short_factor": _factors(_HEAD, first=1.0, last=2.8),
                "short_mscale": 1.243163121016122,
                "type": "longrope",
            },
            "rope_theta": 10000.0,
            "router_aux_loss_coef": 0.0,
            "router_jitter_noise": 0.01,
            "sliding_window": LONGEST,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.43.3",
            "use_cache": True,
            "vocab_size": _PIECES,
        }
    )


def phi_tiny_moe() -> Config:
    """Return the config of microsoft/Phi-tiny-MoE-instruct: half the heads, which are narrower together than a row."""
    return _slim_moe("Phi-tiny-MoE", inner=64, num_attention_heads=_HEADS // 2)


def _slim_moe(name: str, *, inner: int, **changes: Json) -> Config:
    """Return a config of SlimMoE: experts of ``inner``, as 960 and 448 a multiple of 64, and of no higher power of 2.

    Its class is a copy of the one that transformers has.
    """
    slim: Config = {
        "_name_or_path": name,
        "auto_map": _code("slimmoe", "PhiMoE"),
        "head_dim": _HEAD,
        "intermediate_size": inner,
        "max_position_embeddings": WINDOWED_LONGEST,
        "original_max_position_embeddings": WINDOWED_LONGEST,
        "rope_scaling": None,
        "sliding_window": WINDOW,
    }
    return _sorted(phi_3_5_moe() | slim | changes)


def phi_3_vision() -> Config:
    """Return the config of microsoft/Phi-3-vision-128k-instruct, which transformers does not know."""
    return _phi_3_vision_like("Phi-3-vision-128k-instruct", sliding_window=131072)


def phi_3_5_vision() -> Config:
    """Return the config of microsoft/Phi-3.5-vision-instruct, which transformers does not know."""
    return _phi_3_vision_like("Phi-3.5-vision-instruct")


def _phi_3_vision_like(name: str, **more: Json) -> Config:
    changes: Config = {
        "architectures": ["Phi3VForCausalLM"],
        "auto_map": _code("phi3_v", "Phi3V"),
        "eos_token_id": 2,
        "embd_layer": {
            "embedding_cls": "image",
            "hd_transform_order": "sub_glb",
            "projection_cls": "mlp",
            "use_hd_transform": True,
            "with_learnable_separator": True,
        },
        "img_processor": {
            "image_dim_out": 64,
            "model_name": "openai/clip-vit-large-patch14-336",
            "name": "clip_vision_model",
            "num_img_tokens": 144,
        },
        "model_type": "phi3_v",
        "num_key_value_heads": _HEADS,
        "transformers_version": "4.38.1",
    }
    config = _phi_3_5(name, **changes | more)
    config["rope_scaling"]["type"] = "su"  # as LongRoPE was called first
    del config["attention_bias"]
    return config


def phi_4() -> Config:
    """Return the config of microsoft/phi-4: no sliding window, another base for its rotations, no code of its own."""
    return _phi_4_like("phi-4", longest=2048, theta=250000)


def phi_4_reasoning() -> Config:
    """Return the config of microsoft/Phi-4-reasoning."""
    changes = {"partial_rotary_factor": 1.0, "transformers_version": "4.51.1"}
    return _phi_4_like("Phi-4-reasoning", longest=LONGEST, theta=500000, **changes)


def phi_4_as_llama() -> Config:
    """Return the config of unsloth/phi-4: Phi-4 in Llama's class."""
    return _as_llama(phi_4(), pad_token_id=100351, transformers_version="4.47.1", unsloth_fixed=True)


def phi_3_5_mini_as_llama() -> Config:
    """Return the config of fine-tunes of unsloth/Phi-3.5-mini-instruct: Llama's class, and LongRoPE left out."""
    config = _as_llama(phi_3_5_mini() | {"num_key_value_heads": _HEADS, "rope_scaling": None}, unsloth_version="2024.9")
    del config["sliding_window"], config["head_dim"]
    return config


def phi_3_mini_as_mistral() -> Config:
    """Return the config of unsloth/Phi-3-mini-4k-instruct: Mistral's class, and a sliding window longer by one."""
    return _as_mistral(phi_3_mini_4k(), transformers_version="4.39.3")


def phi_3_medium_as_mistral() -> Config:
    """Return the config of unsloth/Phi-3-medium-4k-instruct: Mistral's class, and a sliding window longer by one."""
    return _as_mistral(phi_3_medium(), transformers_version="4.41.0")


def phi_4_mini() -> Config:
    """Return the config of microsoft/Phi-4-mini-instruct: tied, three quarters of a head turned, LongRoPE."""
    return _phi_4_mini_like("Phi-4-mini-instruct")


def phi_4_multimodal() -> Config:
    """Return the config of microsoft/Phi-4-multimodal-instruct, which transformers does not know by this name."""

    def lora(parts: str, alpha: int, rank: int) -> Config:
        return {"dp": 0.0, "layer": f"layers.*(({parts}))", "lora_alpha": alpha, "r": rank}

    adapted = r"self_attn\.(qkv|o)_proj|mlp\.(gate_up|down)_proj"
    changes: Config = {
        "architectures": ["Phi4MMForCausalLM"],
        "audio_processor": {"config": {"attention_dim": 64, "attention_heads": 4, "num_blocks": 1}, "name": "cascades"},
        "auto_map": _code("phi4mm", "Phi4MM") | {"AutoTokenizer": "Xenova/gpt-4o"},
        "embd_layer": {
            "audio_embd_layer": {"compression_rate": 8, "downsample_rate": 1, "embedding_cls": "audio"},
            "embedding_cls": "image_audio",
            "image_embd_layer": {"crop_size": 448, "embedding_cls": "tune_image", "hd_transform_order": "sub_glb"},
        },
        "img_processor": None,
        "model_type": "phi4mm",
        "speech_lora": lora(adapted, 32, 16),
        "transformers_version": "4.46.1",
        "vision_lora": lora(adapted, 32, 16),
    }
    return _phi_4_mini_like("Phi-4-multimodal-instruct", **changes)


def phi_4_reasoning_vision() -> Config:
    """Return the config of microsoft/Phi-4-reasoning-vision-15B, which transformers does not know by this name."""
    changes: Config = {
        "architectures": ["Phi4ForCausalLMV"],
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "square",
        "max_num_patches": 3600,
        "min_num_patches": 256,
        "mm_hidden_size": 64,
        "mm_projector_type": "mlp2x_gelu",
        "model_type": "phi4-siglip",
        "partial_rotary_factor": 1.0,
        "transformers_version": "4.57.1",
        "use_mm_proj": True,
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "model_type": "siglip2_vision_model",
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
        },
    }
    config = _phi_4_like("Phi-4-reasoning-vision-15B", longest=LONGEST, theta=500000, **changes)
    code = _code("phi4_visionr", "Phi4VisionR") | {"AutoModelForCausalLM": "modeling_phi4_visionr.Phi4ForCausalLMV"}
    return _sorted(config | {"auto_map": code})


def text_of(config: Config) -> Config:
    """Return the config of the Phi-3 in a model with pictures or speech."""
    found = {k: v for k, v in config.items() if k not in _OF_TOWERS}
    if (rope := found["rope_scaling"]) is not None:
        found["rope_scaling"] = rope | {"type": "longrope"}  # transformers knows it by no older name
    return found | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}


def generation(ids: int | list[int], *, begin: int, pad: int | None, version: str, **more: Json) -> Config:
    """Return generation_config.json: ``ids`` end an answer."""
    padding = {} if pad is None else {"pad_token_id": pad}
    return _sorted({"bos_token_id": begin, "eos_token_id": ids, "transformers_version": version} | padding | more)


def _phi_3(name: str, **changes: Json) -> Config:
    return _sorted(
        {
            "_name_or_path": name,
            "architectures": ["Phi3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "auto_map": _code("phi3", "Phi3"),
            "bos_token_id": 1,
            "embd_pdrop": 0.0,
            "eos_token_id": _END,
            "hidden_act": "silu",
            "hidden_size": _HIDDEN,
            "initializer_range": 0.02,
            "intermediate_size": 512,
            "model_type": "phi3",
            "num_attention_heads": _HEADS,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "pad_token_id": _END,
            "resid_pdrop": 0.0,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": _PIECES,
        }
        | changes
    )


def _windowed(name: str, *, heads: int, version: str) -> Config:
    return _phi_3(
        name,
        max_position_embeddings=WINDOWED_LONGEST,
        num_key_value_heads=heads,
        original_max_position_embeddings=WINDOWED_LONGEST,
        sliding_window=WINDOW,
        transformers_version=version,
    )


def _phi_3_5(name: str, **changes: Json) -> Config:
    rope = {
        "long_factor": _factors(_HEAD, first=1.08, last=63.08),
        "short_factor": _factors(_HEAD, first=1.0, last=2.8),
        "type": "longrope",
    }
    shape = {
        "max_position_embeddings": LONGEST,
        "original_max_position_embeddings": SWITCH,
        "rope_scaling": rope,
        "sliding_window": 262144,
        "transformers_version": "4.43.3",
    }
    return _phi_3(name, **shape | changes)


def _phi_4_like(name: str, *, longest: int, theta: int, **changes: Json) -> Config:
    shape = {
        "bos_token_id": 100257,
        "eos_token_id": 100265,
        "max_position_embeddings": longest,
        "num_key_value_heads": 1,
        "original_max_position_embeddings": longest,
        "pad_token_id": 100349,
        "rope_theta": theta,
        "sliding_window": None,
        "transformers_version": "4.47.0",
        "vocab_size": 100352,
    }
    config = _phi_3(name, **shape | changes)
    del config["auto_map"]
    return config


def _phi_4_mini_like(name: str, **changes: Json) -> Config:
    turned = _HEAD * 3 // 4
    # As in the real one: the short factors change nothing.
    rope = {"long_factor": _factors(turned, first=1, last=47.77), "short_factor": [1.0] * (turned // 2)}
    shape = {
        "auto_map": _code("phi3", "Phi3") | {"AutoTokenizer": "Xenova/gpt-4o"},
        "bos_token_id": 199999,
        "eos_token_id": 199999,
        "full_attn_mod": 1,
        "interpolate_factor": 1,
        "lm_head_bias": False,
        "max_position_embeddings": LONGEST,
        "mlp_bias": False,
        "original_max_position_embeddings": SWITCH,
        "pad_token_id": 199999,
        "partial_rotary_factor": 0.75,
        "rope_scaling": rope | {"type": "longrope"},
        "sliding_window": 262144,
        "tie_word_embeddings": True,
        "transformers_version": "4.45.0",
        "vocab_size": 200064,
    }
    return _phi_3(name, **shape | changes)


def _as_llama(config: Config, **changes: Json) -> Config:
    theirs = {"architectures": ["LlamaForCausalLM"], "mlp_bias": False, "model_type": "llama", "pretraining_tp": 1}
    return _without_phi_3_s(config | theirs | {"head_dim": _HEAD} | changes)


def _as_mistral(config: Config, **changes: Json) -> Config:
    theirs = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": WINDOW + 1}
    found = _without_phi_3_s(config | theirs | changes)
    del found["attention_bias"], found["original_max_position_embeddings"], found["rope_scaling"]
    return found


def _without_phi_3_s(config: Config) -> Config:
    return _sorted({k: v for k, v in config.items() if k not in ("auto_map", "embd_pdrop", "resid_pdrop")})


def _code(module: str, prefix: str) -> Config:
    return {
        "AutoConfig": f"configuration_{module}.{prefix}Config",
        "AutoModelForCausalLM": f"modeling_{module}.{prefix}ForCausalLM",
    }


def _sorted(config: Config) -> Config:
    return dict(sorted(config.items()))


def _factors(turned: int, *, first: float, last: float) -> list[float]:
    """Return a factor for each frequency of ``turned`` dimensions, rising slowly and then fast, as the real ones do."""
    count = turned // 2
    return [round(first + (last - first) * (i / (count - 1)) ** 2, 4) for i in range(count)]
