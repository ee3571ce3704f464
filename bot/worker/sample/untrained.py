"""Random weights under the true names of the models that transformers reads only with the code in their repos."""

from collections.abc import Iterator
from typing import Any

import torch

from bot.records.artifacts import Json

Tensor = Any  # torch is not installed where mypy runs
Shapes = Iterator[tuple[str, tuple[int, ...]]]

_SPREAD = 0.02


def weights(config: dict[str, Json], seed: int) -> dict[str, Tensor]:
    """Return the weights of a Phi-3.5-vision or a Phi-4-multimodal: its text part, and what joins images to it."""
    shapes = {"phi3_v": _vision, "phi4mm": _multimodal}[config["model_type"]]
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * _SPREAD for name, shape in sorted(shapes(config))}


def _vision(config: dict[str, Json]) -> Shapes:
    hidden, image = config["hidden_size"], config["img_processor"]["image_dim_out"]
    yield from _text(config, linear="{}.weight")
    yield "lm_head.weight", (config["vocab_size"], hidden)
    yield "model.vision_embed_tokens.glb_GN", (1, 1, 4 * image)
    yield "model.vision_embed_tokens.sub_GN", (1, 1, 1, 4 * image)
    for n, width in ((0, 4 * image), (2, hidden)):
        yield f"model.vision_embed_tokens.img_projection.{n}.weight", (hidden, width)
        yield f"model.vision_embed_tokens.img_projection.{n}.bias", (hidden,)


def _multimodal(config: dict[str, Json]) -> Shapes:
    """The text part, with an adapter for speech and one for vision on each matrix."""
    for name, shape in _text(config, linear="{}.base_layer.weight"):
        yield name, shape
        if name.endswith(".base_layer.weight"):
            matrix = name.removesuffix(".base_layer.weight")
            for adapter in ("speech", "vision"):
                rank = config[f"{adapter}_lora"]["r"]
                yield f"{matrix}.lora_A.{adapter}.weight", (rank, shape[1])
                yield f"{matrix}.lora_B.{adapter}.weight", (shape[0], rank)


def _text(config: dict[str, Json], *, linear: str) -> Shapes:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        matrices = {
            "self_attn.qkv_proj": (hidden + 2 * config["num_key_value_heads"] * head, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_up_proj": (2 * inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        for matrix, shape in matrices.items():
            yield layer + linear.format(matrix), shape
