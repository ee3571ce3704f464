"""Models with pictures and speech as files, for tests: names and keys as their repos have them."""

import json
from collections.abc import Mapping
from pathlib import Path

from bot.records.artifacts import Json
from tests.source.models import files, safetensors, write

Tensors = dict[str, tuple[str, list[int]]]

_TEXT: dict[str, Json] = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 12,
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 256,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "original_max_position_embeddings": 64,
    "pad_token_id": 12,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 262144,
    "torch_dtype": "bfloat16",
    "vocab_size": 32,
}
_ROPE: dict[str, Json] = {"long_factor": [4.0] * 4, "short_factor": [1.0] * 4}
_ADAPTER: dict[str, Json] = {"dp": 0.0, "layer": "layers.*((self_attn.(qkv|o)_proj))", "lora_alpha": 4, "r": 2}

PHI3_V: dict[str, Json] = _TEXT | {
    "_attn_implementation": "flash_attention_2",
    "architectures": ["Phi3VForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM"},
    "embd_layer": {"embedding_cls": "image", "use_hd_transform": True},
    "img_processor": {"image_dim_out": 8, "name": "clip_vision_model", "num_img_tokens": 144},
    "model_type": "phi3_v",
    "rope_scaling": _ROPE | {"type": "su"},
    "tie_word_embeddings": False,
}
PHI4MM: dict[str, Json] = _TEXT | {
    "architectures": ["Phi4MMForCausalLM"],
    "audio_processor": {"config": {"attention_dim": 8}, "name": "cascades"},
    "auto_map": {"AutoModelForCausalLM": "modeling_phi4mm.Phi4MMForCausalLM"},
    "embd_layer": {"embedding_cls": "image_audio"},
    "img_processor": None,
    "model_type": "phi4mm",
    "partial_rotary_factor": 0.75,
    "rope_scaling": {"long_factor": [4.0] * 3, "short_factor": [1.0] * 3, "type": "longrope"},
    "speech_lora": _ADAPTER,
    "tie_word_embeddings": True,
    "vision_lora": _ADAPTER,
}
PHI4_SIGLIP: dict[str, Json] = _TEXT | {
    "architectures": ["Phi4ForCausalLMV"],
    "auto_map": {"AutoModelForCausalLM": "modeling_phi4_visionr.Phi4ForCausalLMV"},
    "mm_hidden_size": 8,
    "mm_projector_type": "mlp2x_gelu",
    "model_type": "phi4-siglip",
    "original_max_position_embeddings": 256,
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vision_config": {"hidden_size": 8, "model_type": "siglip2_vision_model", "num_hidden_layers": 1},
}
CONFIGS = {"phi3_v": PHI3_V, "phi4mm": PHI4MM, "phi4-siglip": PHI4_SIGLIP}

_IMAGE, _AUDIO = "model.embed_tokens_extend.image_embed.", "model.embed_tokens_extend.audio_embed."
TOWERS: dict[str, Tensors] = {
    "phi3_v": {
        "model.vision_embed_tokens.glb_GN": ("BF16", [1, 1, 32]),
        "model.vision_embed_tokens.sub_GN": ("BF16", [1, 1, 1, 32]),
        "model.vision_embed_tokens.img_projection.0.weight": ("BF16", [16, 32]),
        "model.vision_embed_tokens.img_processor.vision_model.embeddings.class_embedding": ("BF16", [8]),
        "model.vision_embed_tokens.img_processor.vision_model.embeddings.position_ids": ("I64", [1, 4]),
    },
    "phi4mm": {
        f"{_IMAGE}glb_GN": ("BF16", [1, 1, 8]),
        f"{_IMAGE}img_processor.encoder.layers.0.self_attn.q_proj.weight": ("BF16", [8, 8]),
        f"{_IMAGE}img_projection.0.weight": ("BF16", [16, 8]),
        f"{_AUDIO}audio_projection.speech.0.weight": ("BF16", [16, 8]),
        f"{_AUDIO}encoder.encoders.0.feed_forward_in.net.0.linear.weight": ("BF16", [8, 8]),
        **{
            f"model.layers.{n}.{matrix}.lora_{side}.{given}.weight": ("BF16", shape)
            for n in range(2)
            for matrix, rows in (("self_attn.qkv_proj", 32), ("mlp.gate_up_proj", 48))
            for given in ("speech", "vision")
            for side, shape in (("A", [2, 16]), ("B", [rows, 2]))
        },
    },
    "phi4-siglip": {
        "model.mm_projector.0.weight": ("BF16", [16, 8]),
        "model.mm_projector.2.bias": ("BF16", [16]),
        "model.vision_tower.vision_tower.vision_model.embeddings.position_embedding.weight": ("BF16", [4, 8]),
    },
}


def text(config: Mapping[str, Json]) -> Tensors:
    """Return the tensors of the Phi-3 that such a config asks for, under Phi-3's names."""
    hidden, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, list[int]] = {"model.embed_tokens": [rows, hidden], "model.norm": [hidden]}
    if not config["tie_word_embeddings"]:
        shapes["lm_head"] = [rows, hidden]
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        shapes |= {f"{layer}{norm}_layernorm": [hidden] for norm in ("input", "post_attention")}
        shapes |= {f"{layer}self_attn.qkv_proj": [hidden + 2 * keys, hidden]}
        shapes |= {f"{layer}self_attn.o_proj": [hidden, hidden], f"{layer}mlp.down_proj": [hidden, inner]}
        shapes |= {f"{layer}mlp.gate_up_proj": [2 * inner, hidden]}
    return {f"{name}.weight": ("BF16", shape) for name, shape in sorted(shapes.items())}


def stored_name(kind: str, name: str) -> str:
    """Return what a repo of that kind calls a tensor of the text part."""
    return name.replace("_proj.weight", "_proj.base_layer.weight") if kind == "phi4mm" else name


def tensors(kind: str) -> Tensors:
    """Return all tensors of a model of that kind, as its repo calls them, in the order of their names."""
    own = {stored_name(kind, name): t for name, t in text(CONFIGS[kind]).items()}
    return dict(sorted((own | TOWERS[kind]).items()))


def contents(kind: str, of: Tensors | None = None, **changes: Json) -> dict[str, bytes]:
    """Return the files of a whole model of that kind, whose weights are in one file; ``changes`` are of its config."""
    return files(
        config__json=json.dumps(CONFIGS[kind] | changes).encode(),
        generation_config__json=b"{}",
        model__safetensors=safetensors(tensors(kind) if of is None else of),
        tokenizer__model=None,
    )


def model(folder: Path, kind: str, of: Tensors | None = None, **changes: Json) -> Path:
    """Write such a model into a new folder and return it."""
    return write(folder, contents(kind, of, **changes))
