"""A config.json held against the headers of the weights: layers, experts, and the shape of every tensor.

Libraries find a misfit late, or never: a million layers are built for minutes before the first is missing, and layers
past those that are asked for are left out. The shapes of Phi's own classes follow from the config: they are known here.
"""

import re
from collections.abc import Iterable, Mapping

from bot.errors import MisfitError
from bot.records.artifacts import Json
from bot.source.safetensors_files import Tensor

Names = dict[str, tuple[str, ...]]

# Shapes by the names of tensors. Each length is one of _KEYS; what follows a "*" is of each expert.
_ENDS: Names = {
    "model.embed_tokens.weight": ("vocabulary", "hidden"),
    "lm_head.weight": ("vocabulary", "hidden"),
    "lm_head.bias": ("vocabulary",),
    **{f"model.{norm}.{part}": ("hidden",) for norm in ("norm", "final_layernorm") for part in ("weight", "bias")},
}
_NORMS: Names = {
    "input_layernorm.weight": ("hidden",),
    "post_attention_layernorm.weight": ("hidden",),
}
_APART: Names = {
    "self_attn.q_proj.weight": ("queries", "hidden"),
    "self_attn.q_proj.bias": ("queries",),
    "self_attn.k_proj.weight": ("keys", "hidden"),
    "self_attn.k_proj.bias": ("keys",),
    "self_attn.v_proj.weight": ("keys", "hidden"),
    "self_attn.v_proj.bias": ("keys",),
}
_LLAMA: Names = (
    _NORMS
    | {name: shape for name, shape in _APART.items() if name.endswith("weight")}
    | {
        "self_attn.o_proj.weight": ("hidden", "queries"),
        "mlp.gate_proj.weight": ("inner", "hidden"),
        "mlp.up_proj.weight": ("inner", "hidden"),
        "mlp.down_proj.weight": ("hidden", "inner"),
    }
)
_LAYERS: dict[str, Names] = {
    "phi": _APART
    | {
        **{f"self_attn.{part}_layernorm.{end}": ("head",) for part in "qk" for end in ("weight", "bias")},
        "input_layernorm.weight": ("hidden",),
        "input_layernorm.bias": ("hidden",),
        "self_attn.dense.weight": ("hidden", "queries"),
        "self_attn.dense.bias": ("hidden",),
        "mlp.fc1.weight": ("inner", "hidden"),
        "mlp.fc1.bias": ("inner",),
        "mlp.fc2.weight": ("hidden", "inner"),
        "mlp.fc2.bias": ("hidden",),
    },
    "phi3": _NORMS
    | {
        "self_attn.qkv_proj.weight": ("all heads", "hidden"),
        "self_attn.o_proj.weight": ("hidden", "queries"),
        "mlp.gate_up_proj.weight": ("both halves", "hidden"),
        "mlp.down_proj.weight": ("hidden", "inner"),
    },
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "phimoe": _NORMS
    | _APART
    | {
        "input_layernorm.bias": ("hidden",),
        "post_attention_layernorm.bias": ("hidden",),
        "self_attn.o_proj.weight": ("hidden", "queries"),
        "self_attn.o_proj.bias": ("hidden",),
        "block_sparse_moe.gate.weight": ("experts", "hidden"),
        "block_sparse_moe.experts.*.w1.weight": ("inner", "hidden"),
        "block_sparse_moe.experts.*.w2.weight": ("hidden", "inner"),
        "block_sparse_moe.experts.*.w3.weight": ("inner", "hidden"),
    },
}
# What is there by a key alone, which is off where it is left out: the key, by kind of model and beginning of a name.
_SWITCHED = {
    ("phi", "self_attn.q_layernorm."): "qk_layernorm",
    ("phi", "self_attn.k_layernorm."): "qk_layernorm",
    **{("phimoe", f"self_attn.{part}_proj.bias"): "attention_bias" for part in "qkvo"},
    ("phimoe", "lm_head.bias"): "lm_head_bias",
}
_KEYS = {
    "head": ("hidden_size", "num_attention_heads"),
    "vocabulary": ("vocab_size",),
    "hidden": ("hidden_size",),
    "inner": ("intermediate_size",),
    "both halves": ("intermediate_size",),
    "experts": ("num_local_experts",),
    "queries": ("num_attention_heads", "head_dim", "hidden_size"),
    "keys": ("num_key_value_heads", "num_attention_heads", "head_dim", "hidden_size"),
    "all heads": ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size"),
}
_LAYER = re.compile(r"model\.layers\.(\d{1,9})\.(.+)")
_EXPERT = re.compile(r"block_sparse_moe\.experts\.(\d{1,9})\.(.+)")


def check_fit(tensors: Mapping[str, Tensor], config: dict[str, Json], *, where: str) -> None:
    """Check that a Phi's weights are those that its config, whose values were checked, asks for.

    A length that the config leaves out is not held against anything; a part that it leaves out or turns off must not
    be stored, for transformers would not read it. Raises MisfitError, naming what differs.
    """
    kind = str(config.get("model_type"))
    if kind not in _LAYERS:
        return
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[1]), {})[match[2]] = tensor
    asked = config.get("num_hidden_layers")
    if asked is not None:
        _count("num_hidden_layers", asked, layers, "layers", where)
    sizes = lengths(config)
    if _key(kind, "lm_head.bias") is not None:
        _switch("", "lm_head.bias", tensors, config, where)
    for name in _ENDS.keys() & tensors.keys():
        _hold(name, tensors[name], _ENDS[name], sizes, config, where)
    for number, of_layer in sorted(layers.items()):
        _check_layer(f"model.layers.{number}.", of_layer, sizes, config, where)


def _check_layer(
    start: str, tensors: dict[str, Tensor], sizes: dict[str, int], config: dict[str, Json], where: str
) -> None:
    shapes = _LAYERS[str(config["model_type"])]
    if "experts" in sizes:
        numbers = {int(m[1]) for name in tensors if (m := _EXPERT.fullmatch(name))}
        _count("num_local_experts", sizes["experts"], numbers, f"experts under {start}block_sparse_moe", where)
    for name in shapes:
        if _key(str(config["model_type"]), name) is not None:
            _switch(start, name, tensors, config, where)
            continue
        for wanted in [name.replace("*", str(e)) for e in range(sizes.get("experts", 0))] if "*" in name else [name]:
            if wanted not in tensors:
                raise _misfit(f"{where} stores no {start}{wanted}, which config.json asks for")
    for name, tensor in sorted(tensors.items()):
        shape = shapes.get(_EXPERT.sub(r"block_sparse_moe.experts.*.\2", name))
        if shape is not None:
            _hold(start + name, tensor, shape, sizes, config, where)


def _key(kind: str, name: str) -> str | None:
    """Return the key of a config that a part of a model is there by, None for one that is always there."""
    return next((key for (of, begin), key in _SWITCHED.items() if of == kind and name.startswith(begin)), None)


def _switch(start: str, name: str, tensors: Mapping[str, Tensor], config: dict[str, Json], where: str) -> None:
    key = str(_key(str(config["model_type"]), name))
    if config.get(key) is True and name not in tensors:
        raise _misfit(f"{where} stores no {start}{name}, and config.json says {key}")
    if config.get(key) is not True and name in tensors:
        off = "turns off" if key in config else "leaves out"
        raise MisfitError(
            f"{where} stores {start}{name}, and config.json {off} {key}: transformers would not read it",
            hint=f"Set {key} to true if the model was trained with it; else save the model again.",
        )


def _count(key: str, asked: int, found: Iterable[int], what: str, where: str) -> None:
    numbers = sorted(found)
    lost = next((n for n, there in enumerate(numbers) if n != there), len(numbers))
    if lost == len(numbers) == asked:
        return
    there = f"{len(numbers)} {what}" if lost == len(numbers) else f"{what} up to {numbers[-1]}, without {lost}"
    raise _misfit(f"config.json of {where} says that {key} is {asked}, and the weights hold {there}")


def _hold(
    name: str,
    tensor: Tensor,
    shape: tuple[str, ...],
    sizes: dict[str, int],
    config: dict[str, Json],
    where: str,
) -> None:
    wanted = tuple(sizes.get(length, -1) for length in shape)
    fits = len(wanted) == len(tensor.shape) and all(w in (-1, t) for w, t in zip(wanted, tensor.shape, strict=True))
    if fits:
        return
    keys = [k for k in dict.fromkeys(k for length in shape for k in _KEYS[length]) if config.get(k) is not None]
    said = ", ".join(f"{k} is {config[k]}" for k in keys)
    asked = ", ".join("any" if w < 0 else str(w) for w in wanted)
    raise _misfit(
        f"{name} of {where} has the shape [{', '.join(map(str, tensor.shape))}], "
        f"and by config.json it is [{asked}] ({said})"
    )


def lengths(config: dict[str, Json]) -> dict[str, int]:
    """Return the lengths that a config gives, by their names here; those that it leaves open are left out."""
    hidden, inner, heads = (config.get(k) for k in ("hidden_size", "intermediate_size", "num_attention_heads"))
    sizes = {"hidden": hidden, "inner": inner, "both halves": 2 * inner if inner else None}
    sizes |= {"vocabulary": config.get("vocab_size")}
    if config["model_type"] == "phimoe":
        sizes["experts"] = config.get("num_local_experts")
    size = config.get("head_dim") or (hidden // heads if hidden and heads else None)
    if hidden and heads:
        sizes["head"] = hidden // heads
    if heads and size:
        sizes["queries"] = heads * size
        groups = config.get("num_key_value_heads")
        if groups is None and config["model_type"] != "phimoe":
            groups = heads
        if groups is not None:
            sizes |= {"keys": groups * size, "all heads": (heads + 2 * groups) * size}
    return {name: value for name, value in sizes.items() if value is not None}


def _misfit(message: str) -> MisfitError:
    return MisfitError(message, hint="Put the config.json that was saved with the weights beside them.")
