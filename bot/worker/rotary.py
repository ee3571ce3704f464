"""The comparison of an artifact's rotary embeddings, as its own files give them, with the source's config.

On one text, a wrong base or the factors of the wrong side of a LongRoPE switch can look like a coarse quantization. A
comparison of the numbers themselves tells them apart. Needs numpy alone.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot.records.artifacts import Json

Array = Any  # numpy is not installed where mypy runs

_TOLERANCE = 0.01  # relative; half-precision tables round by 0.001
_PARTIAL = {"phi": 0.5}  # the part of a head that turns, where a config of this type does not say


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Rotary embeddings (RoFormer, Su et al. 2021; LongRoPE, Ding et al. 2024).

    ``short`` and ``long`` are the angles, in radians per position, of each pair of turned dimensions, up to a
    LongRoPE switch and past it; ``long`` is None for a model without one. ``short_scale`` and ``long_scale`` are what
    queries and keys are multiplied by. Values that an artifact does not hold are None: mlx-lm keeps no short angles.
    """

    short: Array  # or None
    long: Array = None
    short_scale: float | None = None
    long_scale: float | None = None


class OtherRotaryError(ValueError):
    """Rotary embeddings that are not the source's; the message says which."""


def compare(found: Rotary, expected: Rotary) -> str:
    """Return in a few words what is equal. Raises OtherRotaryError for the first difference."""
    if found.short is None and found.long is None:
        raise OtherRotaryError("there are no angles")
    if found.short is not None:
        _angles("angles", found.short, expected.short)
    if expected.long is not None:
        if found.long is None:
            raise OtherRotaryError("there are no angles for contexts past the LongRoPE switch")
        _angles("angles past the LongRoPE switch", found.long, expected.long)
    for side in ("short", "long"):
        have, want = getattr(found, f"{side}_scale"), getattr(expected, f"{side}_scale")
        if have is not None and want is not None and not math.isclose(have, want, rel_tol=_TOLERANCE):
            raise OtherRotaryError(
                f"queries and keys are scaled by {have:.4g} in {side} contexts, the source's by {want:.4g}"
            )
    count, both = len(found.long if found.short is None else found.short), ""
    if expected.long is not None:
        both = " past the LongRoPE switch" if found.short is None else " on both sides of the LongRoPE switch"
    return f"{count} angles{both} are the source's"


def _angles(what: str, found: Array, expected: Array) -> None:
    if len(found) != len(expected):
        raise OtherRotaryError(f"{len(found)} {what}, the source has {len(expected)}")
    errors = np.abs(np.asarray(found, dtype=np.float64) / expected - 1)
    worst = int(errors.argmax())
    if not errors[worst] <= _TOLERANCE:
        raise OtherRotaryError(
            f"of the {what}, number {worst} is {found[worst]:.4g}, the source's {expected[worst]:.4g}"
        )


def of_config(config: Json) -> Rotary:
    """Return what a Phi's config.json asks for, in its older keys or those that transformers 5 writes."""
    rope: dict[str, Json] = config.get("rope_scaling") or config.get("rope_parameters") or {}

    def setting(key: str, otherwise: Json) -> Json:
        value = config.get(key, rope.get(key))
        return otherwise if value is None else value

    size = setting("head_dim", config["hidden_size"] // config["num_attention_heads"])
    turned = int(size * setting("partial_rotary_factor", _PARTIAL.get(config["model_type"], 1.0)))
    angles = 1.0 / setting("rope_theta", 10000.0) ** (np.arange(0, turned, 2) / turned)
    if not rope.get("long_factor"):
        return Rotary(short=angles, short_scale=1.0)
    factors = {side: np.asarray(rope[f"{side}_factor"], dtype=np.float64) for side in ("short", "long")}
    scale = _scale(config["max_position_embeddings"], setting("original_max_position_embeddings", None))
    return Rotary(
        short=angles / factors["short"],
        long=angles / factors["long"],
        short_scale=rope.get("short_mscale") or scale,
        long_scale=rope.get("long_mscale") or scale,
    )


def _scale(longest: int, switch: int | None) -> float:
    """Return LongRoPE's scale of queries and keys, from how much longer contexts may be than in training."""
    if not switch or longest <= switch:
        return 1.0
    return math.sqrt(1 + math.log(longest / switch) / math.log(switch))
