"""Whether an artifact computes with the numbers of its source that are not weights: what its files say, by the config.

An epsilon that is ten times as large, or a window that is a little longer, changes predictions less than rounding does.
Held against the numbers themselves, neither passes. Needs the standard library alone.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bot.records.artifacts import Json

EPSILON = "the epsilon of norms"  #: added to the mean of squares, or to the variance
SCALE = "the scale of attention"  #: what products of queries and keys are multiplied by
WINDOW = "the sliding window"  #: positions that attention looks at, its own among them; 0 for all
CAP = "the cap of logits"  #: of attention or of the output; 0 for none, and no Phi has one
HEADS = "heads"  #: of queries
KEY_HEADS = "heads of keys and values"
CHOSEN = "experts for each token"
JITTER = "the router's jitter"  #: how far below the best expert's another one's logit may be, to be counted with it

_ROUNDING = 2.0**-22  # relative: of numbers in float32, and of what is computed from such in a step or two


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A number that an artifact states: ``what`` is one of the names above.

    ``where`` is the place that it is for, a norm or a layer; "" of a number that is stated once, for all places.
    """

    what: str
    value: float
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The number that a config asks for, at how many ``places``."""

    value: float
    places: int


class OtherConstantError(ValueError):
    """A number that is not the source's; the message says which."""


def compare(found: Iterable[Constant], expected: dict[str, Asked]) -> str:
    """Return in a few words what is equal. Raises OtherConstantError for the first difference.

    An artifact need not state every number, as a runtime may compute it; the epsilon of norms is always stated. What is
    stated place by place has to be at every place.
    """
    places: dict[str, set[str]] = {}
    for constant in found:
        asked = expected.get(constant.what)
        if asked is None:
            raise OtherConstantError(f"{_called(constant)} is {constant.value:.7g}, and the source has none")
        if not math.isclose(constant.value, asked.value, rel_tol=_ROUNDING):
            raise OtherConstantError(f"{_called(constant)} is {constant.value:.7g}, the source's {asked.value:.7g}")
        places.setdefault(constant.what, set()).add(constant.where)
    for what, wheres in places.items():
        if wheres != {""} and len(wheres) != expected[what].places:
            raise OtherConstantError(f"{what}: stated at {len(wheres)} places, the source has {expected[what].places}")
    if EPSILON not in places:
        raise OtherConstantError("there is no epsilon, so no norm")
    return "; ".join(f"{what}: {expected[what].value:g}" for what in places)


def of_config(config: Json) -> dict[str, Asked]:
    """Return what a Phi's config.json asks for; what it leaves out is as transformers has it."""

    def setting(key: str, otherwise: Json) -> Json:
        value = config.get(key)
        return otherwise if value is None else value

    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    size = setting("head_dim", config["hidden_size"] // heads)
    attention = {
        SCALE: size**-0.5,
        WINDOW: window(setting("sliding_window", 0), setting("max_position_embeddings", math.inf)),
        CAP: 0.0,
        HEADS: heads,
        KEY_HEADS: setting("num_key_value_heads", heads),
    }
    if config["model_type"] == "phimoe":
        attention |= {CHOSEN: setting("num_experts_per_tok", 2), JITTER: setting("router_jitter_noise", 0.01)}
    asked = {what: Asked(value=value, places=layers) for what, value in attention.items()}
    if config["model_type"] != "phi":
        return asked | {EPSILON: Asked(value=setting("rms_norm_eps", 1e-5), places=2 * layers + 1)}
    norms = 3 if config.get("qk_layernorm") else 1  # its attention and its MLP share one
    return asked | {EPSILON: Asked(value=setting("layer_norm_eps", 1e-5), places=norms * layers + 1)}


def window(stated: float, longest: float) -> float:
    """Return the positions that a window holds back, where contexts have ``longest`` of them at most: 0 for none."""
    return stated if 0 < stated < longest else 0.0


def _called(constant: Constant) -> str:
    return f"{constant.what}, {constant.where}," if constant.where else constant.what
