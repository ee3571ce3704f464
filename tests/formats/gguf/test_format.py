"""What the steps learn of GGUF: what it refuses, how large it will be, where it goes."""

from typing import Any

import pytest

from bot import catalogue
from bot.formats.gguf.format import FORMAT
from bot.texts import DROPPED_BEFORE, DROPPED_BEHIND
from tests.formats.examples import PHI_4_MINI

ROWS = [v for v in catalogue.all_variants().values() if v.format == "gguf"]
Q4_K_M = catalogue.all_variants()["gguf/q4_k_m"]


@pytest.mark.parametrize("architecture", ["PhiForCausalLM", "Phi3ForCausalLM", "PhiMoEForCausalLM"])
def test_takes_the_text_models_that_the_converter_registers(architecture: str) -> None:
    assert FORMAT.refusal({**PHI_4_MINI, "architectures": [architecture]}, Q4_K_M) is None


@pytest.mark.parametrize("architecture", ["Phi3SmallForCausalLM", "Phi4MMForCausalLM", "Phi4FlashForCausalLM"])
def test_refuses_the_others_by_name(architecture: str) -> None:
    reason = FORMAT.refusal({**PHI_4_MINI, "architectures": [architecture]}, Q4_K_M)
    assert reason == (
        f"llama.cpp does not support {architecture}; of the Phi models it has "
        "Phi-1, 1.5 and 2, Phi-3, 3.5 and 4, Phi-3.5-MoE"
    )


@pytest.mark.parametrize("architectures", [None, [], "Phi3ForCausalLM", [3], {}])
def test_refuses_a_config_that_names_no_architecture(architectures: Any) -> None:
    reason = FORMAT.refusal({**PHI_4_MINI, "architectures": architectures}, Q4_K_M)
    assert reason is not None
    assert "a model that names no architecture" in reason


def test_a_refusal_does_not_deny_the_tools_support() -> None:
    reason = FORMAT.refusal({**PHI_4_MINI, "architectures": ["LlamaForCausalLM"]}, Q4_K_M)
    assert reason == (
        "phi-bot takes Phi's own classes only, and the model is a LlamaForCausalLM; "
        "with llama.cpp it builds Phi-1, 1.5 and 2, Phi-3, 3.5 and 4, Phi-3.5-MoE"
    )
    reason = FORMAT.refusal({**PHI_4_MINI, "architectures": ["Phi4ForCausalLMV"]}, Q4_K_M)
    assert reason == "llama.cpp makes two files of Phi4ForCausalLMV, and phi-bot builds text models only"


@pytest.mark.parametrize("architecture", ["PhiForCausalLM", "Phi3ForCausalLM", "PhiMoEForCausalLM"])
def test_refuses_heads_of_another_size_than_the_converter_takes(architecture: str) -> None:
    shape = {**PHI_4_MINI, "architectures": [architecture], "hidden_size": 4096, "num_attention_heads": 16}
    for size in (None, 256):
        assert FORMAT.refusal(shape | {"head_dim": size}, Q4_K_M) is None
    assert FORMAT.refusal(shape | {"head_dim": 128}, Q4_K_M) == (
        "llama.cpp's converter of Phi models takes heads of hidden_size / num_attention_heads = 4096 / 16 dimensions, "
        "and head_dim is 128"
    )


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_refuses_a_rope_scaling_that_the_converter_does_not_know(key: str) -> None:
    assert FORMAT.refusal({**PHI_4_MINI, "rope_scaling": {key: "yarn"}}, Q4_K_M) is None
    assert FORMAT.refusal({**PHI_4_MINI, "rope_scaling": {key: "su"}}, Q4_K_M) is None
    reason = FORMAT.refusal({**PHI_4_MINI, "rope_scaling": {key: "dynamic"}}, Q4_K_M)
    assert reason is not None
    assert "'dynamic'" in reason


def test_all_files_of_a_model_go_to_the_top_of_one_repo() -> None:
    assert {(FORMAT.repo_suffix(v), FORMAT.path_in_repo(v)) for v in ROWS} == {("-GGUF", "")}


def test_a_context_past_the_switch_is_known_by_its_setting_and_no_side_is_left_out_of_the_gate() -> None:
    (known,) = FORMAT.known_behaviours(PHI_4_MINI)
    assert (known.side, known.setting) == ("short", "a context past the switch")
    assert known.reference.startswith("https://github.com/ggml-org/llama.cpp/")


def test_a_model_without_long_rope_has_no_switch_to_know_of() -> None:
    assert FORMAT.known_behaviours({**PHI_4_MINI, "rope_scaling": None}) == ()


def test_the_graph_of_a_mixture_of_experts_is_known_to_differ_on_every_side_that_is_measured() -> None:
    config = {**PHI_4_MINI, "model_type": "phimoe"}
    assert [(k.side, k.setting) for k in FORMAT.known_behaviours({**config, "rope_scaling": None})] == [("short", "")]
    known = FORMAT.known_behaviours(config)
    assert [(k.side, k.setting) for k in known] == [
        ("short", ""),
        ("long", ""),
        ("short", "a context past the switch"),
    ]
    assert all(k.reference.startswith("https://github.com/ggml-org/llama.cpp/") for k in known)


def test_kinds_of_text_that_llama_cpp_reads_differently_go_by_the_tokenizer() -> None:
    marks = "letters with combining marks"
    white = {"white space after special tokens", DROPPED_BEFORE, DROPPED_BEHIND}
    assert FORMAT.read_differently({"vocab_size": 32064}).keys() == set()
    assert FORMAT.read_differently({"vocab_size": 100352}).keys() == white
    assert FORMAT.read_differently({"vocab_size": 200064}).keys() == {*white, marks}
    assert FORMAT.read_differently({"vocab_size": "many"}).keys() == set()
