"""Rotary embeddings: what a config asks for, and which differences are named."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bot.records.artifacts import Json
from bot.worker.rotary import OtherRotaryError, Rotary, compare, of_config

PHI_4: dict[str, Json] = {
    "model_type": "phi3",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "rope_theta": 250000.0,
    "rope_scaling": None,
    "max_position_embeddings": 16384,
}
LONG: dict[str, Json] = PHI_4 | {
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0 + i / 10 for i in range(8)],
        "long_factor": [1.5 + i for i in range(8)],
    },
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 4096,
    "max_position_embeddings": 131072,
}


def test_angles_fall_from_one_by_the_base() -> None:
    rotary = of_config(PHI_4)
    assert len(rotary.short) == 8
    assert rotary.short[0] == 1
    assert rotary.short[4] == pytest.approx(250000**-0.5)
    assert (rotary.long, rotary.short_scale) == (None, 1)


def test_longrope_divides_them_by_its_factors_and_scales() -> None:
    rotary = of_config(LONG)
    assert rotary.short[2] == pytest.approx(10000**-0.25 / 1.2)
    assert rotary.long[2] == pytest.approx(10000**-0.25 / 3.5)
    assert rotary.short_scale == rotary.long_scale == pytest.approx(math.sqrt(1 + 5 / 12))  # 32 is 2^5, 4096 is 2^12


def test_a_mixture_of_experts_names_its_scales() -> None:
    rope = LONG["rope_scaling"] | {"short_mscale": 1.25, "long_mscale": 1.5}
    rotary = of_config(LONG | {"rope_scaling": rope})
    assert (rotary.short_scale, rotary.long_scale) == (1.25, 1.5)


@pytest.mark.parametrize(
    ("change", "turned"),
    [({"partial_rotary_factor": 0.75}, 12), ({"model_type": "phi"}, 8), ({"head_dim": 32}, 32)],
)
def test_a_part_of_a_head_may_turn(change: dict[str, Json], turned: int) -> None:
    assert len(of_config(PHI_4 | change).short) == turned / 2


def test_newer_keys_say_the_same() -> None:
    moved = ("rope_theta", "original_max_position_embeddings")
    newer = {k: v for k, v in LONG.items() if k not in (*moved, "rope_scaling")}
    newer["rope_parameters"] = LONG["rope_scaling"] | {k: LONG[k] for k in moved} | {"rope_type": "longrope"}
    assert (
        compare(of_config(newer), of_config(LONG)) == "8 angles on both sides of the LongRoPE switch are the source's"
    )


def test_factors_rounded_to_half_precision_are_equal() -> None:
    want = of_config(LONG)
    rounded = replace(want, short=want.short.astype(np.float16), long=want.long.astype(np.float16), long_scale=1.19)
    assert "are the source's" in compare(rounded, want)


def test_long_angles_alone_are_compared_alone() -> None:
    want = of_config(LONG)
    assert compare(Rotary(short=None, long=want.long), want) == "8 angles past the LongRoPE switch are the source's"


WANT = of_config(LONG)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (replace(WANT, short=WANT.long, long=WANT.short), r"^of the angles, number 7 is .*, the source's"),
        (Rotary(short=None, long=WANT.short), "^of the angles past the LongRoPE switch, number 7 is"),
        (of_config(LONG | {"rope_theta": 10500.0}), "^of the angles, number 7"),
        (replace(WANT, long=None), "no angles for contexts past the LongRoPE switch"),
        (replace(WANT, short=WANT.short[:6]), "^6 angles, the source has 8"),
        (replace(WANT, long_scale=1.0), r"^queries and keys are scaled by 1 in long contexts, the source's by 1\.19"),
        (replace(WANT, short=WANT.short * np.nan), "number 0 is nan"),
        (Rotary(short=None), "there are no angles"),
    ],
)
def test_other_angles_are_named(found: Any, message: str) -> None:
    with pytest.raises(OtherRotaryError, match=message):
        compare(found, WANT)
