"""Towers: what a Phi that takes pictures or speech has beside its text part, under the names that its repo has.

Nothing here computes with them, so their weights are random, and each has one layer.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from bot.records.artifacts import Json

Tensor = Any  # torch is not installed where mypy runs
Config = dict[str, Json]
Shapes = Iterator[tuple[str, tuple[int, ...]]]

_SPREAD = 0.02
_IMAGE, _AUDIO = "model.embed_tokens_extend.image_embed.", "model.embed_tokens_extend.audio_embed."
_MATRICES = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")


def added(config: Config, text: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return a Phi-3's weights as the text part of the model that ``config`` is of, with its towers beside them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = dict(sorted(_KINDS[config["model_type"]](config)))
    found = {name: torch.randn(shape, generator=generator) * _SPREAD for name, shape in shapes.items()}
    if config["model_type"] == "phi4mm":
        text = dict(_with_adapters(config, text, generator))
    return text | found


def _with_adapters(config: Config, text: dict[str, Tensor], generator: Any) -> Iterator[tuple[str, Tensor]]:
    """Each matrix under the layer that wraps it, with an adapter for speech and one for vision."""
    for name, weight in text.items():
        matrix = name.removesuffix(".weight")
        if not matrix.endswith(_MATRICES):
            yield name, weight
            continue
        yield f"{matrix}.base_layer.weight", weight
        rows, columns = weight.shape
        for given in ("speech", "vision"):
            rank = config[f"{given}_lora"]["r"]
            for side, shape in (("A", (rank, columns)), ("B", (rows, rank))):
                yield f"{matrix}.lora_{side}.{given}.weight", torch.randn(shape, generator=generator) * _SPREAD


def _phi3_v(config: Config) -> Shapes:
    """CLIP, and what joins its features to the text."""
    hidden, width, start = config["hidden_size"], config["img_processor"]["image_dim_out"], "model.vision_embed_tokens."
    yield from _projection(start, width, hidden)
    clip = f"{start}img_processor.vision_model."
    yield f"{clip}embeddings.class_embedding", (width,)
    yield f"{clip}embeddings.patch_embedding.weight", (width, 3, 14, 14)
    yield f"{clip}embeddings.position_embedding.weight", (577, width)
    yield from _both(f"{clip}pre_layrnorm", width)  # as the original spells it
    yield from _both(f"{clip}post_layernorm", width)
    yield from _layer(f"{clip}encoder.layers.0.", width)


def _phi4mm(config: Config) -> Shapes:
    """SigLIP and a conformer, and what joins their features to the text."""
    hidden, width = config["hidden_size"], config["audio_processor"]["config"]["attention_dim"]
    yield from _projection(_IMAGE, width, hidden)
    yield from _siglip(f"{_IMAGE}img_processor.", width, (width, 3, 14, 14), 1024)
    for given in ("speech", "vision"):
        for n, columns in ((0, width), (2, hidden)):
            yield f"{_AUDIO}audio_projection.{given}.{n}.weight", (hidden, columns)
            yield f"{_AUDIO}audio_projection.{given}.{n}.bias", (hidden,)
    yield f"{_AUDIO}encoder.encoder_embedding.global_mean", (80,)
    yield f"{_AUDIO}encoder.encoder_embedding.global_invstd", (80,)
    yield f"{_AUDIO}encoder.relative_attention_bias_layer.bias_values.weight", (1000, 4)
    block = f"{_AUDIO}encoder.encoders.0."
    for part in ("feed_forward_in", "feed_forward_out"):
        yield from _both(f"{block}{part}.layer_norm", width)
        yield from _linear(f"{block}{part}.net.0.linear", 2 * width, width)
        yield from _linear(f"{block}{part}.net.2", width, width)
    for part in ("q", "k", "v", "out"):
        yield from _linear(f"{block}self_attn.linear_{part}", width, width)
    yield from _both(f"{block}layer_norm", width)
    yield from _both(f"{block}layer_norm_att", width)


def _phi4_siglip(config: Config) -> Shapes:
    """SigLIP 2, and what joins its features to the text."""
    hidden, width = config["hidden_size"], config["mm_hidden_size"]
    yield from _linear("model.mm_projector.0", hidden, width)
    yield from _linear("model.mm_projector.2", hidden, hidden)
    yield from _siglip("model.vision_tower.vision_tower.vision_model.", width, (width, 3 * 16 * 16), 256)


_KINDS: dict[str, Callable[[Config], Shapes]] = {"phi3_v": _phi3_v, "phi4mm": _phi4mm, "phi4-siglip": _phi4_siglip}


def _projection(start: str, width: int, hidden: int) -> Shapes:
    """The features of four patches as one, and the separators between rows and pictures."""
    yield f"{start}glb_GN", (1, 1, 4 * width)
    yield f"{start}sub_GN", (1, 1, 1, 4 * width)
    yield from _linear(f"{start}img_projection.0", hidden, 4 * width)
    yield from _linear(f"{start}img_projection.2", hidden, hidden)


def _siglip(start: str, width: int, patch: tuple[int, ...], places: int) -> Shapes:
    yield f"{start}embeddings.patch_embedding.weight", patch
    yield f"{start}embeddings.patch_embedding.bias", (width,)
    yield f"{start}embeddings.position_embedding.weight", (places, width)
    yield from _both(f"{start}post_layernorm", width)
    yield from _layer(f"{start}encoder.layers.0.", width)


def _layer(start: str, width: int) -> Shapes:
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from _linear(f"{start}self_attn.{part}", width, width)
    yield from _linear(f"{start}mlp.fc1", 2 * width, width)
    yield from _linear(f"{start}mlp.fc2", width, 2 * width)
    yield from _both(f"{start}layer_norm1", width)
    yield from _both(f"{start}layer_norm2", width)


def _linear(name: str, rows: int, columns: int) -> Shapes:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _both(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
