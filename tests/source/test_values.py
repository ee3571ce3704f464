"""Whatever a config.json holds, planning takes it or refuses it by its key."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot import catalogue
from bot.errors import ConfigValueError, PhiBotError
from bot.formats.registry import all_formats
from bot.machines.estimate import estimate
from bot.records.artifacts import Json
from bot.source.config import check_config
from bot.source.meaning import NATIVE
from bot.source.shape import guessed_shape
from bot.worker.sample import config as samples
from tests.formats.examples import release

CONFIGS: dict[str, dict[str, Json]] = {
    name: made()
    for name, made in vars(samples).items()
    if name.startswith("phi_") and made()["model_type"] in NATIVE.values()
}
CHANGED = ("phi_2", "phi_3_5_mini", "phi_3_5_moe", "phi_4_mini")
ROPE = {"short_factor", "long_factor", "type", "short_mscale", "long_mscale", "original_max_position_embeddings"}
KEYS = sorted(
    {key for config in CONFIGS.values() for key in config} | {"dtype", "head_dim", "layer_types", "rope_parameters"}
)

numbers = st.sampled_from([0, -1, 1, 2, 3, 7, 16, 64, 1 << 20, 1 << 31, 1 << 64, 10**30, -(10**30)])
fractions = st.sampled_from([0.0, -0.0, 0.5, -1.5, 1e-300, 5e-324, 1e300, 2.0]) | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | st.integers() | fractions | st.text(max_size=5)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
ropes = st.dictionaries(
    st.sampled_from(sorted(ROPE | {"rope_type", "factor", "rope_theta", "partial_rotary_factor", "attention_factor"})),
    values | st.sampled_from(["longrope", "su", "linear", "yarn", "default"]) | st.lists(st.just(1.5), max_size=40),
    max_size=5,
)


def changes(config: dict[str, Json]) -> st.SearchStrategy[dict[str, Json]]:
    """Some keys of a config with other values, of which most cannot be."""
    any_key = st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=3)
    rope = config.get("rope_scaling") or {}
    of_rope = ropes.map(lambda changed: {"rope_scaling": rope | changed})
    return any_key | of_rope | ropes.map(lambda changed: {"rope_parameters": changed})


def plan_all(config: dict[str, Json]) -> None:
    """Do what planning does with a config."""
    made = release(config, 1_000_000_000)
    shape = guessed_shape(made)
    for row in catalogue.all_variants().values():
        form = all_formats()[row.format]
        refused = form.refusal(config, row)
        assert refused is None or refused
        form.known_behaviours(config)
        form.read_differently(config)
        if refused is None and row.default:
            estimate(shape, [row])


def refusal(config: dict[str, Json]) -> PhiBotError | None:
    try:
        check_config(config, where="a/b")
    except PhiBotError as error:
        return error
    return None


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_has_values_that_can_be(name: str) -> None:
    check_config(CONFIGS[name], where="a/b")
    plan_all(CONFIGS[name])


@pytest.mark.parametrize("name", CHANGED)
@given(data=st.data())
def test_a_changed_config_is_planned_or_refused_by_its_key(name: str, data: st.DataObject) -> None:
    config = CONFIGS[name]
    changed = data.draw(changes(config))
    refused = refusal(config | changed)
    if refused is None:
        plan_all(config | changed)
    elif type(refused) is ConfigValueError:
        assert refused.message.startswith("config.json of a/b: ")
        assert any(key in refused.message for key in changed), refused.message
        assert len(refused.message) < 300
    else:
        assert changed.keys() & {"architectures", "model_type", "auto_map"}, refused  # then its code is asked for


WRONG: dict[str, tuple[str, Any]] = {
    "no heads": ("num_attention_heads", 0),
    "negative heads": ("num_attention_heads", -4),
    "heads that do not divide": ("num_attention_heads", 5),
    "groups that do not divide": ("num_key_value_heads", 3),
    "no groups": ("num_key_value_heads", 0),
    "no width": ("hidden_size", 0),
    "a width in words": ("hidden_size", "256"),
    "a width with a fraction": ("hidden_size", 256.0),
    "a truth for layers": ("num_hidden_layers", True),
    "a million layers": ("num_hidden_layers", 1_000_000),
    "no vocabulary": ("vocab_size", 0),
    "a huge vocabulary": ("vocab_size", 10**12),
    "no context": ("max_position_embeddings", 0),
    "null for a width": ("intermediate_size", None),
    "null for a theta": ("rope_theta", None),
    "null for a head": ("head_dim", None),
    "null for a truth": ("use_cache", None),
    "no point": ("initializer_range", 1),
    "an id in words": ("bos_token_id", "<s>"),
    "an id with a fraction": ("pad_token_id", 0.5),
    "ids in words": ("eos_token_id", [1, "</s>"]),
    "a context of one": ("original_max_position_embeddings", 1),
    "no epsilon": ("rms_norm_eps", 0),
    "epsilon in words": ("rms_norm_eps", "1e-5"),
    "negative theta": ("rope_theta", -1.0),
    "no theta": ("rope_theta", 0),
    "half a window": ("sliding_window", 0.5),
    "no window": ("sliding_window", 0),
    "an activation of nobody": ("hidden_act", "cube"),
    "a type of nobody": ("torch_dtype", "os"),
    "tied in words": ("tie_word_embeddings", "no"),
    "a rope in words": ("rope_scaling", "long"),
    "a list of layer types": ("layer_types", ["full_attention"]),
}


@pytest.mark.parametrize(("key", "value"), WRONG.values(), ids=WRONG)
def test_a_value_that_cannot_be_is_refused_with_file_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(ConfigValueError, match=rf"^config\.json of a/b: .*\b{key}\b") as caught:
        check_config(CONFIGS["phi_3_5_mini"] | {key: value}, where="a/b")
    assert caught.value.exit_code == 28
    shown = ascii(value) if isinstance(value, str) else json.dumps(value)
    assert shown in caught.value.message or isinstance(value, list)


@pytest.mark.parametrize("name", CHANGED)
def test_no_count_of_groups_is_every_heads_own_but_where_transformers_takes_no_null(name: str) -> None:
    config = CONFIGS[name] | {"num_key_value_heads": None}
    if config["model_type"] != "phimoe":
        check_config(config, where="a/b")
        return
    with pytest.raises(ConfigValueError) as caught:
        check_config(config, where="a/b")
    heads = config["num_attention_heads"]
    asked = f"num_key_value_heads is null, and should be a whole number: num_attention_heads ({heads})"
    assert asked in caught.value.message
    assert caught.value.exit_code == 28


def longrope(**changed: Json) -> dict[str, Json]:
    config = CONFIGS["phi_3_5_mini"]
    rope = config["rope_scaling"] | changed
    return config | {"rope_scaling": {k: v for k, v in rope.items() if v != "absent"}}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"short_factor": [1.0] * 31},
            "the length of rope_scaling.short_factor is 31, and should be 32, by hidden_size, num_attention_heads",
        ),
        ({"long_factor": []}, "the length of rope_scaling.long_factor is 0, and should be 32"),
        ({"long_factor": "absent"}, "rope_scaling.long_factor is null"),
        ({"long_factor": 2.0}, r"rope_scaling.long_factor is 2\.0, and should be a list"),
        ({"long_factor": [1.0] * 31 + [0.0]}, r"rope_scaling.long_factor\[31\] is 0\.0"),
        ({"long_factor": [1.0] * 31 + ["1"]}, r"rope_scaling.long_factor\[31\] is '1'"),
        ({"type": "linear"}, "rope_scaling.factor is null, and should be a number, which linear needs"),
        ({"rope_type": None}, "rope_scaling.rope_type is null"),
        ({"type": 3}, "rope_scaling.type is 3"),
        ({"short_mscale": -1}, "rope_scaling.short_mscale is -1"),
    ],
)
def test_rope_factors_have_the_length_that_heads_ask_for(changed: dict[str, Json], says: str) -> None:
    with pytest.raises(ConfigValueError, match=says):
        check_config(longrope(**changed), where="a/b")


def test_of_another_model_nothing_is_asked() -> None:
    check_config({"model_type": "gemma", "hidden_size": [1]}, where="a/b")


@given(st.dictionaries(st.sampled_from(KEYS), values))
@example({"model_type": "phi3", "rope_scaling": {}})
def test_any_config_is_read_or_refused(config: dict[str, Json]) -> None:
    refused = refusal(config)
    if refused is None:
        plan_all(json.loads(json.dumps(config)))
    else:
        assert refused.hint
