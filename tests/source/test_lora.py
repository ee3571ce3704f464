"""What an adapter_config.json may say: the rest is refused by its name."""

import time
from typing import Any

import pytest

from bot.errors import AdapterError
from bot.source.lora import read_lora
from tests.source.adapters import BASE, LORA


def refused(**changes: Any) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        read_lora(LORA | changes, where="a/b")
    assert "a/b" in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_config_as_peft_writes_it_is_read() -> None:
    lora = read_lora(LORA | {"revision": "v1", "use_rslora": True, "use_dora": True, "r": 16}, where="a/b")
    assert (lora.base, lora.revision, lora.kind) == (BASE, "v1", "DoRA")
    assert lora.scale_of("model.layers.0.self_attn.qkv_proj") == 8 / 4  # the root of the rank
    assert lora.targets == ("qkv_proj",)


@pytest.mark.parametrize(
    "kind", ["IA3", "PROMPT_TUNING", "PREFIX_TUNING", "LOHA", "LOKR", "VERA", "ADALORA", "OFT", "BOFT", 3, None]
)
def test_adapters_of_other_kinds_are_refused(kind: Any) -> None:
    error = refused(peft_type=kind)
    assert "only LoRA is merged here" in error.message
    assert f"into {BASE}" in error.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_replication", [[0, 2], [1, 2]]),
        ("use_qalora", True),
        ("alora_invocation_tokens", [1, 2]),
        ("target_parameters", ["experts.w1"]),
        ("trainable_token_indices", [5]),
        ("lora_bias", True),
        ("megatron_config", {"a": 1}),
        ("loftq_config", {"loftq_bits": 4}),
        ("an_option_of_tomorrow", 1),
    ],
)
def test_an_option_that_changes_more_is_refused_by_its_name(key: str, value: Any) -> None:
    assert f"sets {key!r}" in refused(**{key: value}).message
    read_lora(LORA | {key: type(value)()}, where="a/b")  # off


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fan_in_fan_out", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_16"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", 3),
        ("bias", "some"),
        ("base_model_name_or_path", None),
        ("base_model_name_or_path", ["a/b"]),
        ("revision", 3),
        ("r", 0),
        ("r", True),
        ("r", "8"),
        ("lora_alpha", None),
        ("lora_alpha", float("inf")),
        ("rank_pattern", ["q_proj"]),
        ("rank_pattern", {"q_proj": 0.5}),
        ("alpha_pattern", {"q_proj": "8"}),
        ("alpha_pattern", {"(a+)+b": 8}),
        ("alpha_pattern", {"(?:a|a)b": 8}),
        ("alpha_pattern", {".*.*.*x": 8}),
        ("alpha_pattern", {"[z-a]": 8}),
        ("alpha_pattern", {"é": 8}),
        ("alpha_pattern", {f"a|{n}": 8 for n in range(21)}),
        ("target_modules", {"q_proj": 1}),
        ("modules_to_save", "lm_head"),
    ],
)
def test_an_impossible_value_is_refused_by_its_key(key: str, value: Any) -> None:
    assert key in refused(**{key: value}).message


def test_what_a_config_leaves_out_is_as_peft_has_it() -> None:
    lora = read_lora({k: v for k, v in LORA.items() if k not in ("r", "lora_alpha", "revision")}, where="a/b")
    assert (lora.rank, lora.alpha, lora.revision) == (8, 8, None)


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_starts_that_leave_the_base_as_it_is_are_taken(start: Any) -> None:
    read_lora(LORA | {"init_lora_weights": start}, where="a/b")


def test_no_expression_takes_long() -> None:
    patterns = {f".*{'a|' * n}.*b": 2 for n in range(20)}
    lora = read_lora(LORA | {"alpha_pattern": patterns}, where="a/b")
    begin = time.process_time()
    for layer in range(64):
        lora.scale_of(f"model.layers.{layer}.self_attn.{'a' * 100}")
    assert time.process_time() - begin < 5


def test_what_the_message_says_is_escaped() -> None:
    assert "\x1b" not in refused(peft_type="\x1b[2J").message
    assert "\x1b" not in refused(peft_type="IA3", base_model_name_or_path="\x1b[2J").hint
    assert "\x1b" not in refused(**{"\x1b[2J": 1}).message
