"""What a config.json means: one spelling for all readers, and a refusal where they would read different things."""

from typing import Any

import pytest

from bot.errors import ConfigValueError, PhiBotError, UnsupportedArchitectureError
from bot.records.artifacts import Json
from bot.source.config import check_config
from bot.source.meaning import normal
from tests.source.models import CONFIG

LENGTHS = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
FACTORS = {"short_factor": [1.0, 1.1], "long_factor": [2.0, 3.0]}
MSCALES = {"short_mscale": 1.2, "long_mscale": 1.3}
LONG = CONFIG | LENGTHS | {"rope_scaling": {"type": "longrope"} | FACTORS}


def meant(**changes: Json) -> dict[str, Json]:
    return normal(LONG | changes, where="a/b")


def refused(error: type[PhiBotError], words: str, **changes: Json) -> None:
    with pytest.raises(error, match=words):
        normal({k: v for k, v in (LONG | changes).items() if v != "gone"}, where="a/b")


def test_a_config_that_all_tools_read_alike_stays_as_it_is() -> None:
    for config in (LONG, {"model_type": "llama"}, {}):
        assert normal(config, where="a/b") == config
        assert list(normal(config, where="a/b")) == list(config)


# ---- rotary embeddings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("name", ["type", "rope_type"])
@pytest.mark.parametrize("kind", ["su", "yarn", "longrope"])
def test_older_names_of_longrope_are_read_as_longrope(key: str, name: str, kind: str) -> None:
    given = CONFIG | LENGTHS | {key: {name: kind} | FACTORS}
    assert normal(given, where="a/b") == given | {key: {name: "longrope"} | FACTORS}


def test_both_names_of_a_kind_are_read_together() -> None:
    both = {"type": "su", "rope_type": "longrope"} | FACTORS
    assert meant(rope_scaling=both)["rope_scaling"] == both | {"type": "longrope"}
    refused(
        ConfigValueError,
        "a/b: rope_scaling.rope_type is 'default', and rope_scaling.type is 'su'; readers take either",
        rope_scaling=both | {"rope_type": "default"},
    )


def test_one_of_two_keys_counts_only_where_they_agree() -> None:
    rope = {"type": "su"} | FACTORS
    same = meant(rope_scaling=rope, rope_parameters=rope | {"type": "longrope"})
    assert same["rope_scaling"] == same["rope_parameters"] == rope | {"type": "longrope"}
    refused(ConfigValueError, "rope_scaling and rope_parameters differ", rope_parameters={"rope_type": "default"})


@pytest.mark.parametrize("empty", [None, {}])
def test_an_empty_key_hides_no_other(empty: Json) -> None:
    """llama.cpp's converter takes rope_parameters wherever it is there, empty or not."""
    assert meant(rope_parameters=empty) == LONG
    moved = {k: v for k, v in LONG.items() if k != "rope_scaling"} | {"rope_parameters": LONG["rope_scaling"]}
    assert normal(moved | {"rope_scaling": empty}, where="a/b") == moved


@pytest.mark.parametrize(("key", "value", "other"), [("rope_theta", 1e4, 1e6), ("partial_rotary_factor", 0.75, 1.0)])
def test_a_value_that_stands_twice_stands_there_once(key: str, value: float, other: float) -> None:
    inner = {"type": "longrope", key: other} | FACTORS
    refused(ConfigValueError, f"{key} is .*, and rope_scaling.{key} is ", rope_scaling=inner, **{key: value})
    assert meant(rope_scaling=inner, **{key: other})[key] == other


def test_the_switch_of_longrope_is_made_up_by_no_reader() -> None:
    refused(
        ConfigValueError, "a/b: original_max_position_embeddings is missing", original_max_position_embeddings="gone"
    )
    refused(ConfigValueError, "a/b: original_max_position_embeddings is missing", original_max_position_embeddings=None)
    inner = {"rope_type": "longrope", "original_max_position_embeddings": 512} | FACTORS
    config = {k: v for k, v in LONG.items() if k != "original_max_position_embeddings"} | {"rope_scaling": inner}
    assert normal(config, where="a/b")["original_max_position_embeddings"] == 512  # transformers alone would take 4096
    refused(
        ConfigValueError,
        "original_max_position_embeddings is 4096, and rope_scaling.original_max_position_embeddings is 512",
        rope_scaling=inner,
    )


@pytest.mark.parametrize(("key", "right"), [("factor", 32.0), ("attention_factor", 1.190238)])
def test_a_scale_that_the_two_lengths_do_not_give_is_refused(key: str, right: float) -> None:
    rope = {"type": "longrope", key: right} | FACTORS
    assert meant(rope_scaling=rope)["rope_scaling"] == rope
    assert meant(rope_scaling=rope | {key: None})["rope_scaling"][key] is None
    words = rf"rope_scaling.{key} is 31, and by max_position_embeddings and original_\w+ it is {right:.4g}; readers"
    refused(ConfigValueError, words, rope_scaling=rope | {key: 31.0})


def test_a_model_without_scaling_switches_at_its_end() -> None:
    plain = {k: v for k, v in LONG.items() if k != "original_max_position_embeddings"}
    for rope in (None, {}, {"rope_type": "default", "rope_theta": 1e4}):
        for given in (plain, LONG):  # LONG's switch is another, which one of the converters would go by
            found = normal(given | {"rope_scaling": rope}, where="a/b")
            assert found["original_max_position_embeddings"] == 131072
    assert normal(
        {"architectures": ["PhiForCausalLM"], "model_type": "phi", "max_position_embeddings": 2048}, where=""
    ) == {
        "architectures": ["PhiForCausalLM"],
        "model_type": "phi",
        "max_position_embeddings": 2048,
    }


@pytest.mark.parametrize("kind", ["yarn", "linear", "dynamic", "llama3", "x\x1b[2J"])
def test_rope_scaling_that_transformers_does_not_read_in_a_phi_3_is_refused_for_every_format(kind: str) -> None:
    words = "the type of rope_scaling is .*, and transformers reads only longrope in a phi3"
    refused(ConfigValueError, words, rope_scaling={"type": kind, "factor": 2.0})


def test_a_mixture_of_experts_needs_its_scales() -> None:
    moe = {"architectures": ["PhiMoEForCausalLM"], "model_type": "phimoe"}
    refused(ConfigValueError, "a/b: rope_scaling.short_mscale is missing", **moe)
    rope = {"type": "su"} | FACTORS | MSCALES
    assert meant(**moe, rope_scaling=rope)["rope_scaling"]["type"] == "longrope"


# ---- classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [None, []])
@pytest.mark.parametrize(
    ("kind", "name"), [("phi", "PhiForCausalLM"), ("phi3", "Phi3ForCausalLM"), ("phimoe", "PhiMoEForCausalLM")]
)
def test_without_a_class_the_type_decides_as_in_transformers(names: Json, kind: str, name: str) -> None:
    assert normal({"architectures": names, "model_type": kind}, where="a/b")["architectures"] == [name]
    assert normal({"model_type": kind}, where="a/b")["architectures"] == [name]
    assert normal({"architectures": [name]}, where="a/b")["model_type"] == kind


def test_a_class_of_one_model_and_the_type_of_another_are_a_contradiction() -> None:
    refused(
        ConfigValueError,
        r"architectures is Phi3ForCausalLM, and model_type is 'phi'; readers take either",
        model_type="phi",
    )


@pytest.mark.parametrize("code", [{}, {"auto_map": {"AutoConfig": "configuration_phi.PhiConfig"}}])
@pytest.mark.parametrize("kind", ["phi-msft", "mixformer-sequential"])
def test_an_older_layout_is_called_one(kind: str, code: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="in an older layout") as caught:
        check_config({"architectures": ["PhiForCausalLM"], "model_type": kind} | code, where="a/b")
    assert "convert_phi_weights_to_hf.py" in caught.value.hint


def test_other_classes_are_not_phi_s_and_no_tool_is_blamed() -> None:
    with pytest.raises(UnsupportedArchitectureError) as caught:
        check_config({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, where="a/b")
    assert caught.value.message == (
        "a/b is a model of the class 'Qwen2ForCausalLM', and phi-bot takes Phi's own classes only"
    )
    assert caught.value.hint == "Give a Phi in its own class, or one that was saved as a Llama or a Mistral."


def test_a_key_that_is_null_says_nothing() -> None:
    assert meant(quantization_config=None) == LONG
    assert meant(quantization_config={"quant_method": "gptq"})["quantization_config"] == {"quant_method": "gptq"}


def test_a_file_of_weights_is_named_by_no_config() -> None:
    refused(ConfigValueError, "a/b: transformers_weights names the file", transformers_weights="tune.safetensors")
    assert meant(transformers_weights=None) == LONG | {"transformers_weights": None}
