"""A Phi that was saved as a Llama or a Mistral is read as Phi-3; all else of these classes is named and refused."""

import json
from typing import Any

import pytest

from bot.errors import ConfigValueError, UnsupportedArchitectureError
from bot.records.artifacts import Json
from bot.source.config import check_config
from bot.source.copies import layout_of, token_ids
from tests.source.copies import LLAMA, MISTRAL, PHI_3, PHI_4, tokenizer_config

FACTORS = {"long_factor": [4.0, 8.0], "short_factor": [1.0, 1.5]}


def read(config: dict[str, Json], tokens: dict[str, int] = PHI_4) -> tuple[dict[str, Json], tuple[str, ...]]:
    there = {"tokenizer_config.json": json.loads(tokenizer_config(tokens))}
    return check_config(config, where="a/b", read=lambda name: there.get(name, {}))


def refused(config: dict[str, Json], tokens: dict[str, int] = PHI_4) -> str:
    with pytest.raises(UnsupportedArchitectureError) as caught:
        read(config, tokens)
    return caught.value.message


def test_a_llama_with_phi_4_s_tokenizer_and_shapes_is_read_as_phi_3() -> None:
    config, (line,) = read(LLAMA)
    theirs = ("attention_bias", "head_dim", "mlp_bias", "pretraining_tp")
    assert config == {k: v for k, v in LLAMA.items() if k not in theirs} | {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "original_max_position_embeddings": 16384,
        "sliding_window": None,
    }
    assert line == (
        "its class is LlamaForCausalLM, and it is a Phi by its tokenizer (Phi-4's: <|im_sep|> is 19) and its shapes "
        "(4 heads to a key), so it is read as Phi-3 and held against what LlamaForCausalLM computes"
    )


@pytest.mark.parametrize(("window", "meant"), [(2048, 2048), (2047, 2047), (None, None), ("left out", 4096)])
def test_a_mistral_s_sliding_window_is_that_of_its_config_or_of_its_class(window: Json, meant: Json) -> None:
    config, (line,) = read({k: v for k, v in (MISTRAL | {"sliding_window": window}).items() if v != "left out"}, PHI_3)
    assert config["sliding_window"] == meant
    assert "Phi-3's: <|user|> is 22" in line


def test_a_llama_has_no_sliding_window_whatever_its_config_says() -> None:
    assert read(LLAMA | {"sliding_window": 2047})[0]["sliding_window"] is None


def test_what_a_config_leaves_out_is_what_its_own_class_has() -> None:
    needed = {k: MISTRAL[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")}
    config, _ = read(needed | {"model_type": "mistral", "num_attention_heads": 8}, PHI_3)
    assert (config["num_key_value_heads"], config["sliding_window"]) == (8, 4096)
    assert (config["rms_norm_eps"], config["pad_token_id"], config["eos_token_id"]) == (1e-06, None, 2)


def test_longrope_is_kept_and_its_older_names_are_known() -> None:
    older = LLAMA | {"rope_scaling": FACTORS | {"type": "su"}, "original_max_position_embeddings": 4096}
    config, _ = read(older, PHI_3)
    assert config["rope_scaling"] == FACTORS | {"type": "longrope"}
    assert config["original_max_position_embeddings"] == 4096


def test_code_that_the_copied_config_asks_for_is_left_out_with_a_note() -> None:
    _, notes = read(LLAMA | {"auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}})
    assert notes[1:] == ("the model asks for code from its repo; it is built without it",)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"num_key_value_heads": 2}, "2 of its heads share a key, and Phi-4 has 4"),
        ({"attention_bias": True}, "it has attention_bias"),
        ({"mlp_bias": True}, "it has mlp_bias"),
        ({"hidden_act": "gelu"}, "its hidden_act is 'gelu'"),
        ({"head_dim": 8}, "head_dim is 8, and hidden_size / num_attention_heads is 16 / 4"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "its rotary embeddings are scaled by 'llama3'"),
        ({"partial_rotary_factor": 0.75}, "only a part of its heads is turned, which neither class does"),
        ({"hidden_size": None}, "its config.json does not say hidden_size"),
        ({"model_type": "gemma"}, "its model_type is 'gemma'"),
    ],
)
def test_what_is_not_a_phi_is_named(change: dict[str, Any], what: str) -> None:
    config = {k: v for k, v in (LLAMA | change).items() if v is not None}
    assert refused(config) == f"a/b is a LlamaForCausalLM and not a Phi: {what}"


@pytest.mark.parametrize("tokens", [{}, {"<s>": 1}, PHI_4 | {"<|im_sep|>": 20}, {k: PHI_3[k] for k in ("<|end|>",)}])
def test_another_tokenizer_makes_it_another_model(tokens: dict[str, int]) -> None:
    assert refused(MISTRAL, tokens) == (
        "a/b is a MistralForCausalLM and not a Phi: its tokenizer has neither Phi-3's (<|assistant|>, <|end|>, "
        "<|user|>) nor Phi-4's (<|im_start|>, <|im_end|>, <|im_sep|>) in their places behind <|endoftext|>"
    )


def test_values_that_cannot_be_are_said_before_all_else() -> None:
    with pytest.raises(ConfigValueError, match="num_attention_heads is 0, and should be a whole number"):
        read(LLAMA | {"num_attention_heads": 0})


@pytest.mark.parametrize("name", ["tokenizer_config.json", "added_tokens.json", "tokenizer.json"])
def test_tokens_are_found_in_any_of_a_tokenizer_s_files(name: str) -> None:
    shapes: dict[str, Json] = {
        "tokenizer_config.json": json.loads(tokenizer_config(PHI_4)),
        "added_tokens.json": PHI_4,
        "tokenizer.json": {"added_tokens": [{"id": i, "content": token} for token, i in PHI_4.items()]},
    }
    assert token_ids(lambda asked: shapes[name] if asked == name else {}) == PHI_4


@pytest.mark.parametrize("value", [None, [], "x", {"a": 1}, [1], {"added_tokens": 1}, [{"id": "x", "content": 3}]])
def test_a_tokenizer_with_other_values_names_no_tokens(value: Json) -> None:
    made = {"added_tokens_decoder": value, "added_tokens": value}
    assert token_ids(lambda name: {} if name == "added_tokens.json" else made) == {}


def test_a_type_stands_for_its_class() -> None:
    assert layout_of({"model_type": "llama"}) == "LlamaForCausalLM"
    assert layout_of({"architectures": ["MistralForCausalLM"]}) == "MistralForCausalLM"
    assert layout_of({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}) == ""
    assert layout_of({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}) == ""
