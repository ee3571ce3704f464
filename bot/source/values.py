"""Bounds on the values of a Phi's config.json, as far as libraries compute with them.

They are checked before everything else: a library that divides by a head count of zero says ZeroDivisionError, and
names neither the file nor the key. Keys that are not here reach no arithmetic, and a missing one has transformers'
default.
"""

import json
import math
from collections.abc import Callable

from bot.errors import ConfigValueError
from bot.records.artifacts import Json

LAYERS = 10_000  #: more than any model has
WIDTH = 1 << 20
VOCABULARY = 10_000_000
ROTATED = {"phi": 0.5}  #: by model_type: the part of a head that is rotated, where a config does not say
_INNER = 1 << 24
_HEADS = 1 << 16
_EXPERTS = 10_000
_CONTEXT = 1 << 31

Rule = Callable[[Json], str | None]  #: says what a value should be, or None where it is that


class _WrongError(Exception):
    """A key whose value cannot be, and what it should be."""

    def __init__(self, key: str, value: Json, should: str) -> None:
        super().__init__(f"{key} is {_shown(value)}, and should be {should}")


def check_values(config: dict[str, Json], *, where: str) -> None:
    """Check the values of a Phi's config.json. Raises ConfigValueError, naming the key, for what cannot be."""
    try:
        _each(config, _RULES, "")
        _heads(config)
        _experts(config)
        for key in ("rope_scaling", "rope_parameters"):
            _rope(config, key)
        _layer_types(config)
    except _WrongError as wrong:
        raise ConfigValueError(
            f"config.json of {where}: {wrong}", hint="Set it to what the original model has, or save the model again."
        ) from None


def _whole(most: int, least: int = 1) -> Rule:
    def rule(value: Json) -> str | None:
        return None if type(value) is int and least <= value <= most else f"a whole number from {least} to {most}"

    return rule


def _number(least: float, most: float, *, above: bool = False) -> Rule:
    """Return the rule of numbers from ``least`` to ``most``; with ``above``, ``least`` itself is not one."""

    def rule(value: Json) -> str | None:
        fits = type(value) in (int, float) and least <= value <= most and not (above and value == least)
        return None if fits else f"a number {'above' if above else 'from'} {least:g}, up to {most:g}"

    return rule


def _one_of(*names: str) -> Rule:
    def rule(value: Json) -> str | None:
        return None if value in names and isinstance(value, str) else f"one of {', '.join(names)}"

    return rule


def _or_null(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def _truth(value: Json) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _text(value: Json) -> str | None:
    return None if isinstance(value, str) else "a text"


def _fraction(value: Json) -> str | None:
    """Say what is wrong for keys where transformers takes no whole number: 0.0, but not 0."""
    return None if type(value) is float and 0 <= value <= 1000 else "a number with a point, from 0.0 to 1000.0"


def _id(value: Json) -> str | None:
    return None if type(value) is int and abs(value) < 1 << 31 else "the id of a token, or null"


def _ids(value: Json) -> str | None:
    ids = value if isinstance(value, list) else [value]
    return None if not any(_id(i) for i in ids) else "the id of a token, a list of them, or null"


_PART = _number(0, 1)
_EPSILON = _number(0, 1, above=True)
_BASE = _number(0, 1e15, above=True)
_ROTATED = _number(0, 1, above=True)
_SHORT = _whole(_CONTEXT, 2)  # its logarithm is divided by
_TYPES = ("float32", "float16", "bfloat16", "float64", "float", "half", "double", "auto")
_ACTIVATIONS = (
    *("gelu", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "quick_gelu"),
    *("silu", "swish", "mish", "relu", "relu2", "relu6", "leaky_relu", "sigmoid", "tanh", "linear"),
)

_RULES: dict[str, Rule] = {
    "hidden_size": _whole(WIDTH),
    "intermediate_size": _whole(_INNER),
    "num_hidden_layers": _whole(LAYERS),
    "num_attention_heads": _whole(_HEADS),
    "num_key_value_heads": _or_null(_whole(_HEADS)),
    "head_dim": _whole(WIDTH),
    "vocab_size": _whole(VOCABULARY),
    "max_position_embeddings": _whole(_CONTEXT),
    "original_max_position_embeddings": _SHORT,
    "sliding_window": _or_null(_whole(_CONTEXT)),
    "num_local_experts": _whole(_EXPERTS),
    "num_experts_per_tok": _whole(_EXPERTS),
    "rms_norm_eps": _EPSILON,
    "layer_norm_eps": _EPSILON,
    "rope_theta": _BASE,
    "partial_rotary_factor": _or_null(_ROTATED),
    "initializer_range": _fraction,
    "attention_dropout": _PART,
    "embd_pdrop": _PART,
    "resid_pdrop": _PART,
    "router_jitter_noise": _fraction,
    "input_jitter_noise": _fraction,
    "router_aux_loss_coef": _fraction,
    "output_router_logits": _truth,
    "tie_word_embeddings": _truth,
    "attention_bias": _truth,
    "lm_head_bias": _truth,
    "qk_layernorm": _truth,
    "use_cache": _truth,
    "hidden_act": _one_of(*_ACTIVATIONS),
    "torch_dtype": _or_null(_one_of(*_TYPES)),
    "dtype": _or_null(_one_of(*_TYPES)),
    "model_type": _text,
    "bos_token_id": _or_null(_id),
    "pad_token_id": _or_null(_id),
    "eos_token_id": _or_null(_ids),
}
_ROPE_RULES: dict[str, Rule] = {
    "type": _text,
    "rope_type": _text,
    "rope_theta": _BASE,
    "partial_rotary_factor": _ROTATED,
    "factor": _or_null(_number(0, 1e6, above=True)),
    "attention_factor": _or_null(_number(0, 1e6, above=True)),
    "short_mscale": _number(0, 1e6, above=True),
    "long_mscale": _number(0, 1e6, above=True),
    "beta_fast": _or_null(_number(0, 1e6, above=True)),
    "beta_slow": _or_null(_number(0, 1e6, above=True)),
    "original_max_position_embeddings": _SHORT,
}
_SCALED = ("linear", "dynamic", "yarn", "llama3")  # kinds of rope scaling that have one factor
_TURNED = ("hidden_size", "num_attention_heads", "head_dim", "partial_rotary_factor", "model_type")
_FACTOR = _number(0, 1e9, above=True)


def _each(values: dict[str, Json], rules: dict[str, Rule], before: str) -> None:
    for key, rule in rules.items():
        if key in values and (should := rule(values[key])) is not None:
            raise _WrongError(before + key, values[key], should)


def _heads(config: dict[str, Json]) -> None:
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if config.get("model_type") == "phimoe" and "num_key_value_heads" in config and groups is None:
        all_heads = "num_attention_heads" if heads is None else f"num_attention_heads ({heads})"
        raise _WrongError("num_key_value_heads", None, f"a whole number: {all_heads} where each head has its own keys")
    if heads is None:
        return
    width = config.get("hidden_size")
    if config.get("head_dim") is None and width is not None and width % heads:
        raise _WrongError("num_attention_heads", heads, f"a divisor of hidden_size, which is {width}")
    if groups is not None and heads % groups:
        raise _WrongError("num_key_value_heads", groups, f"a divisor of num_attention_heads, which is {heads}")


def _experts(config: dict[str, Json]) -> None:
    experts, asked = config.get("num_local_experts"), config.get("num_experts_per_tok")
    if experts is not None and asked is not None and asked > experts:
        raise _WrongError("num_experts_per_tok", asked, f"at most num_local_experts, which is {experts}")


def _rope(config: dict[str, Json], key: str) -> None:
    rope = config.get(key)
    if rope is None:
        return
    if not isinstance(rope, dict):
        raise _WrongError(key, rope, "an object, or null")
    _each(rope, _ROPE_RULES, f"{key}.")
    given = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor")
    kind = rope.get("rope_type") or rope.get("type")
    if kind in _SCALED and rope.get("factor") is None:
        raise _WrongError(f"{key}.factor", None, f"a number, which {kind} needs")
    if kind == "longrope" and config.get("model_type") == "phimoe":
        for name in ("short_mscale", "long_mscale"):
            if name not in rope:
                raise _WrongError(f"{key}.{name}", None, "a number, which longrope needs in a mixture of experts")
    pairs = _pairs(config, given or ROTATED.get(str(config.get("model_type")), 1.0))
    for name in ("short_factor", "long_factor"):
        factors = rope.get(name)
        if factors is None:
            if kind in ("longrope", "su"):
                raise _WrongError(f"{key}.{name}", factors, f"a list of numbers, which {kind} needs")
            continue
        if not isinstance(factors, list):
            raise _WrongError(f"{key}.{name}", factors, "a list of numbers")
        for at, factor in enumerate(factors):
            if (should := _FACTOR(factor)) is not None:
                raise _WrongError(f"{key}.{name}[{at}]", factor, should)
        if pairs is not None and len(factors) != pairs:
            asked = f"{pairs}, by {', '.join(k for k in _TURNED if k in config)}"
            raise _WrongError(f"the length of {key}.{name}", len(factors), asked)


def _pairs(config: dict[str, Json], part: float) -> int | None:
    """Return how many pairs of dimensions a head rotates, None where that is not said."""
    size, width, heads = (config.get(k) for k in ("head_dim", "hidden_size", "num_attention_heads"))
    if size is None:
        if width is None or heads is None:
            return None
        size = width // heads
    pairs: int = math.floor(size * part) // 2
    return pairs


def _layer_types(config: dict[str, Json]) -> None:
    types, layers = config.get("layer_types"), config.get("num_hidden_layers")
    if types is None:
        return
    if not isinstance(types, list) or not all(isinstance(t, str) for t in types):
        raise _WrongError("layer_types", types, "a list of names")
    if layers is not None and len(types) != layers:
        raise _WrongError("the length of layer_types", len(types), f"num_hidden_layers, which is {layers}")


def _shown(value: Json) -> str:
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
