"""The numbers that a model computes with beside its weights: what a config asks for, and what is found to differ."""

from collections.abc import Mapping

import numpy as np
import pytest

from bot.records.artifacts import Json
from bot.worker.constants import (
    CAP,
    CHOSEN,
    EPSILON,
    HEADS,
    JITTER,
    KEY_HEADS,
    SCALE,
    WINDOW,
    Asked,
    Constant,
    OtherConstantError,
    compare,
    of_config,
)

PHI_3: dict[str, Json] = {
    "model_type": "phi3",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "sliding_window": 2047,
}
NORMS = ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm")


def stated(expected: Mapping[str, Asked]) -> list[Constant]:
    """Every number that is asked for, stated once for all places."""
    return [Constant(what=what, value=asked.value) for what, asked in expected.items()]


def test_a_phi_3_has_two_norms_a_layer_and_one_behind_them() -> None:
    asked = of_config(PHI_3)
    assert asked[EPSILON] == Asked(value=1e-5, places=7)
    assert asked[SCALE] == Asked(value=0.25, places=3)
    assert (asked[HEADS].value, asked[KEY_HEADS].value, asked[CAP].value) == (4, 2, 0)


def test_a_phi_2_has_one_norm_a_layer_and_more_where_queries_and_keys_are_normed() -> None:
    phi_2: dict[str, Json] = PHI_3 | {"model_type": "phi", "layer_norm_eps": 1e-6, "num_key_value_heads": None}
    assert of_config(phi_2)[EPSILON] == Asked(value=1e-6, places=4)
    assert of_config(phi_2)[KEY_HEADS].value == 4
    assert of_config(phi_2 | {"qk_layernorm": True})[EPSILON].places == 10


def test_a_mixture_of_experts_has_its_router_s_too() -> None:
    asked = of_config(PHI_3 | {"model_type": "phimoe", "num_experts_per_tok": 2, "router_jitter_noise": 0.02})
    assert (asked[CHOSEN], asked[JITTER]) == (Asked(value=2, places=3), Asked(value=0.02, places=3))
    assert CHOSEN not in of_config(PHI_3)


def test_what_a_config_leaves_out_is_as_transformers_has_it() -> None:
    bare = {key: PHI_3[key] for key in ("hidden_size", "num_attention_heads", "num_hidden_layers")}
    epsilons = [of_config(bare | {"model_type": kind})[EPSILON].value for kind in ("phi", "phi3", "phimoe")]
    assert epsilons == [1e-5] * 3
    assert of_config(bare | {"model_type": "phimoe"})[JITTER].value == 0.01


@pytest.mark.parametrize(("window", "held"), [(2047, 2047), (4096, 0), (262144, 0), (None, 0)])
def test_a_window_as_long_as_contexts_holds_nothing_back(window: int | None, held: int) -> None:
    assert of_config(PHI_3 | {"sliding_window": window})[WINDOW].value == held


def test_equal_numbers_are_said() -> None:
    asked = of_config(PHI_3)
    said = compare(stated(asked), asked)
    assert "the epsilon of norms: 1e-05" in said
    assert "the scale of attention: 0.25" in said


def test_what_float32_rounds_is_equal() -> None:
    asked = of_config(PHI_3 | {"num_attention_heads": 3, "hidden_size": 288})
    rounded = [Constant(what=c.what, value=float(np.float32(c.value))) for c in stated(asked)]
    assert rounded[0].value != asked[SCALE].value
    assert compare(rounded, asked)


def test_a_number_that_a_runtime_computes_need_not_be_stated() -> None:
    asked = of_config(PHI_3)
    assert compare([c for c in stated(asked) if c.what != SCALE], asked)


@pytest.mark.parametrize("what", [EPSILON, SCALE, WINDOW, HEADS, KEY_HEADS])
@pytest.mark.parametrize("factor", [10, 0.1, 1.001])
def test_another_number_is_found(what: str, factor: float) -> None:
    asked = of_config(PHI_3)
    other = [Constant(what=c.what, value=c.value * (factor if c.what == what else 1)) for c in stated(asked)]
    with pytest.raises(OtherConstantError, match=f"^{what} is .*, the source's {asked[what].value:.7g}$"):
        compare(other, asked)


def test_one_of_many_is_found_and_its_place_named() -> None:
    asked = {EPSILON: Asked(value=1e-5, places=3)}
    found = [Constant(what=EPSILON, where=where, value=1e-4 if where == "norm" else 1e-5) for where in NORMS]
    with pytest.raises(OtherConstantError, match=r"^the epsilon of norms, norm, is 0\.0001, the source's 1e-05$"):
        compare(found, asked)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([Constant(what=EPSILON, value=1e-5, where=w) for w in NORMS[:2]], "stated at 2 places, the source has 3"),
        ([], "there is no epsilon"),
        ([Constant(what=JITTER, value=0.01)], "^the router's jitter is 0.01, and the source has none"),
        ([Constant(what=EPSILON, value=float("nan"))], "is nan, the source's 1e-05"),
    ],
)
def test_a_norm_that_is_missing_or_not_the_source_s_is_found(found: list[Constant], message: str) -> None:
    with pytest.raises(OtherConstantError, match=message):
        compare(found, {EPSILON: Asked(value=1e-5, places=3)})
