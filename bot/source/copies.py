"""Copies: Phi models that were saved as a Llama or a Mistral, as many fine-tunes are.

Those classes compute what Phi-3's does, with the matrices of attention and of the feed-forward part apart. What is a
Phi is told by its tokenizer and by the heads that share a key; what says so is shown to people, and all else of these
classes is refused. A copy is read as Phi-3: its config is written so here, its matrices are joined as
bot/source/joined.py says. The reference alone reads it as it was written, by transformers' own Llama or Mistral.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot.errors import UnsupportedArchitectureError
from bot.records.artifacts import Json
from bot.source.meaning import architecture, respelled
from bot.source.values import check_values

CLASSES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral"}  #: of copies, to their model_type

ReadJson = Callable[[str], dict[str, Json]]
"""Reads a file of the model that holds one JSON object, by its name; an empty object where it has no such file."""


@dataclass(frozen=True, kw_only=True)
class _Family:
    """The tokens of a family's tokenizer, by their distance from the end of text, and how many heads share a key."""

    name: str
    tokens: dict[str, int]
    shared_by: tuple[int, ...]


_END_OF_TEXT = "<|endoftext|>"
_FAMILIES = (
    _Family(name="Phi-3", tokens={"<|assistant|>": 1, "<|end|>": 7, "<|user|>": 10}, shared_by=(1, 4)),
    _Family(name="Phi-4", tokens={"<|im_start|>": 7, "<|im_end|>": 8, "<|im_sep|>": 9}, shared_by=(4,)),
)

# What transformers' classes have where a config leaves a key out, and Phi-3's has otherwise.
_BOTH: dict[str, Json] = {"rms_norm_eps": 1e-6, "eos_token_id": 2, "pad_token_id": None}
_LEFT_OUT: dict[str, dict[str, Json]] = {
    "llama": _BOTH | {"max_position_embeddings": 2048},
    "mistral": _BOTH | {"max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
}
_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_NOT_PHI_3 = ("attention_bias", "mlp_bias")  # parts that Phi-3's class has no place for
_ONLY_THEIRS = ("pretraining_tp", "head_dim", *_NOT_PHI_3)


def layout_of(config: dict[str, Json]) -> str:
    """Return the class of Llama or Mistral that a config names, or means by its type; "" for any other."""
    name = architecture(config)
    if not name:
        name = next((c for c, kind in CLASSES.items() if kind == config.get("model_type")), "")
    return name if name in CLASSES else ""


def read_as_phi_3(config: dict[str, Json], read: ReadJson, *, where: str) -> tuple[dict[str, Json], str]:
    """Return the config of a copy as Phi-3's class reads it, and the line that says what makes it a Phi.

    ``read`` reads its tokenizer's files. Raises UnsupportedArchitectureError, naming what differs, for a Llama or
    Mistral that is not a Phi, and what ``check_values`` raises.
    """
    layout = layout_of(config)
    config = respelled(config)
    check_values(config, where=where)
    kind = CLASSES[layout]
    if config.get("model_type", kind) != kind:
        raise _no_phi(where, layout, f"its model_type is {str(config['model_type'])[:40]!a}")
    for key in _NEEDED:
        if config.get(key) is None:
            raise _no_phi(where, layout, f"its config.json does not say {key}")
    found = {key: value for key, value in _LEFT_OUT[kind].items() if key not in config} | config
    family, end = _family(where, layout, token_ids(read))
    shared_by = _heads_on_a_key(found)
    if shared_by not in family.shared_by:
        asked = " or ".join(map(str, family.shared_by))
        raise _no_phi(where, layout, f"{shared_by} of its heads share a key, and {family.name} has {asked}")
    if (why := _more_than_phi_3(found)) is not None:
        raise _no_phi(where, layout, why)
    if kind == "llama":
        found["sliding_window"] = None  # its class has none, whatever the config says
    found = {key: value for key, value in found.items() if key not in _ONLY_THEIRS}
    found |= {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
    token, distance = next(reversed(family.tokens.items()))
    heads = f"{shared_by} heads to a key" if shared_by > 1 else "a key for each head"
    line = (
        f"its class is {layout}, and it is a Phi by its tokenizer ({family.name}'s: {token} is {end + distance}) and "
        f"its shapes ({heads}), so it is read as Phi-3 and held against what {layout} computes"
    )
    return found, line


def as_written(config: dict[str, Json], layout: str) -> dict[str, Json]:
    """Return the config of a copy that was read as Phi-3, with the class again that its tensors have the names of."""
    return config | {"architectures": [layout], "model_type": CLASSES[layout]}


def token_ids(read: ReadJson) -> dict[str, int]:
    """Return the ids of a tokenizer's added tokens, from the smallest of its files that names any."""
    decoder = read("tokenizer_config.json").get("added_tokens_decoder")
    pairs: list[tuple[Json, Json]] = []
    if isinstance(decoder, dict):
        pairs = [
            (t.get("content"), int(i))
            for i, t in decoder.items()
            if isinstance(t, dict) and i.isascii() and i.isdecimal() and len(i) < 20
        ]
    pairs = pairs or list(read("added_tokens.json").items())
    if not pairs:
        added = read("tokenizer.json").get("added_tokens")
        tokens = [t for t in added if isinstance(t, dict)] if isinstance(added, list) else []
        pairs = [(t.get("content"), t.get("id")) for t in tokens]
    return {token: i for token, i in pairs if isinstance(token, str) and type(i) is int}


def _family(where: str, layout: str, ids: Mapping[str, int]) -> tuple[_Family, int]:
    """Return the family that a tokenizer is of, and the id of its end of text."""
    end = ids.get(_END_OF_TEXT)
    for family in _FAMILIES:
        if end is not None and all(ids.get(token) == end + distance for token, distance in family.tokens.items()):
            return family, end
    asked = " nor ".join(f"{f.name}'s ({', '.join(f.tokens)})" for f in _FAMILIES)
    raise _no_phi(where, layout, f"its tokenizer has neither {asked} in their places behind {_END_OF_TEXT}")


def _heads_on_a_key(config: dict[str, Json]) -> int:
    heads: int = config["num_attention_heads"]
    groups: int | None = config.get("num_key_value_heads")
    return heads // (groups or heads)


def _more_than_phi_3(config: dict[str, Json]) -> str | None:
    """Say what of a Llama's or Mistral's config Phi-3's class does not compute, or return None."""
    for key in _NOT_PHI_3:
        if config.get(key):
            return f"it has {key}"
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        return f"its hidden_act is {config['hidden_act']!a}"
    size, width, heads = config.get("head_dim"), config["hidden_size"], config["num_attention_heads"]
    if size is not None and size * heads != width:
        return f"head_dim is {size}, and hidden_size / num_attention_heads is {width} / {heads}"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", "longrope"):
        return f"its rotary embeddings are scaled by {str(kind)[:40]!a}"
    if (rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1) != 1:
        return "only a part of its heads is turned, which neither class does"
    return None


def _no_phi(where: str, layout: str, what: str) -> UnsupportedArchitectureError:
    return UnsupportedArchitectureError(
        f"{where} is a {layout} and not a Phi: {what}",
        hint="Give a Phi, in its own class or as a Llama or Mistral with its own tokenizer and shapes.",
    )
