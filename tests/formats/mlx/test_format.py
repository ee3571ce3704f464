"""What the steps learn of MLX: what it refuses, how large it will be, where it goes."""

from typing import Any

import pytest

from bot import catalogue
from bot.formats.mlx.format import FORMAT
from bot.records.artifacts import Json
from tests.formats.examples import PHI_4_MINI

ROWS = [v for v in catalogue.all_variants().values() if v.format == "mlx"]
FOUR_BITS = catalogue.all_variants()["mlx/4bit"]


@pytest.mark.parametrize(
    ("architecture", "model_type"),
    [
        ("PhiForCausalLM", "phi"),
        ("Phi3ForCausalLM", "phi3"),
        ("PhiMoEForCausalLM", "phimoe"),
        ("PhimoeForCausalLM", "phimoe"),
    ],
)
def test_takes_the_models_that_mlx_lm_has(architecture: str, model_type: str) -> None:
    config = {**PHI_4_MINI, "architectures": [architecture], "model_type": model_type}
    assert FORMAT.refusal(config, FOUR_BITS) is None


@pytest.mark.parametrize("architecture", ["Phi3SmallForCausalLM", "Phi4MMForCausalLM", "Phi4FlashForCausalLM"])
def test_refuses_the_others_by_name(architecture: str) -> None:
    reason = FORMAT.refusal({**PHI_4_MINI, "architectures": [architecture]}, FOUR_BITS)
    assert reason is not None
    assert reason.startswith(f"mlx-lm does not support {architecture}; ")


@pytest.mark.parametrize("model_type", [None, "llama", "../phi3", ["phi3"]])
def test_refuses_a_model_type_that_is_not_a_phi(model_type: Any) -> None:
    """mlx-lm imports a module of this name: it must be one of its Phi models."""
    reason = FORMAT.refusal({**PHI_4_MINI, "model_type": model_type}, FOUR_BITS)
    assert reason == f"mlx-lm has no Phi model of the type {model_type!r}"


def test_refuses_a_rope_scaling_that_mlx_lm_would_leave_out() -> None:
    reason = FORMAT.refusal({**PHI_4_MINI, "rope_scaling": {"type": "yarn"}}, FOUR_BITS)
    assert reason == "mlx-lm leaves out rope scaling of type 'yarn' in a Phi model"
    assert FORMAT.refusal({**PHI_4_MINI, "rope_scaling": None}, FOUR_BITS) is None


def test_each_precision_has_a_repo_of_its_own() -> None:
    assert FORMAT.repo_suffix(FOUR_BITS) == "-mlx-4bit"
    assert len({FORMAT.repo_suffix(v) for v in ROWS}) == len(ROWS)
    assert {FORMAT.path_in_repo(v) for v in ROWS} == {""}


@pytest.mark.parametrize("settings", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", [{"type": "longrope"}, {"type": "su"}, {"rope_type": "longrope"}])
def test_long_factors_at_every_position_are_known_on_the_short_side(settings: str, kind: dict[str, Json]) -> None:
    config = {k: v for k, v in PHI_4_MINI.items() if k != "rope_scaling"} | {settings: kind}
    (known,) = FORMAT.known_behaviours(config)
    assert known.side == "short"
    assert known.reference == "https://github.com/ml-explore/mlx-lm/pull/707"


@pytest.mark.parametrize("scaling", [None, {"type": "linear", "factor": 2.0}, {"rope_type": "default"}, "longrope"])
def test_without_longrope_nothing_is_left_out_of_the_gate(scaling: Any) -> None:
    assert FORMAT.known_behaviours({**PHI_4_MINI, "rope_scaling": scaling}) == ()


def test_refuses_heads_of_another_size_than_mlx_lm_takes() -> None:
    shape = {**PHI_4_MINI, "hidden_size": 4096, "num_attention_heads": 16}
    assert FORMAT.refusal(shape | {"head_dim": 256}, FOUR_BITS) is None
    reason = FORMAT.refusal(shape | {"head_dim": 128}, FOUR_BITS)
    assert reason == (
        "mlx-lm takes heads of hidden_size / num_attention_heads = 4096 / 16 dimensions, and head_dim is 128"
    )
