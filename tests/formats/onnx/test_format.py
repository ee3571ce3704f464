"""What the steps learn of ONNX: what it refuses, how large it will be, where it goes."""

from typing import Any

import pytest

from bot import catalogue, format_folders
from bot.formats.onnx.format import FORMAT
from bot.formats.onnx.worker import at_once
from bot.records.artifacts import Json
from tests.formats.examples import PHI_4_MINI

ROWS = [v for v in catalogue.all_variants().values() if v.format == "onnx"]
INT4, MIXED, FP32, CUDA_INT4 = (
    catalogue.all_variants()[f"onnx/{n}"] for n in ("cpu-int4", "cpu-int4-mixed", "cpu-fp32", "cuda-int4")
)
PHI_4_MINI_HEADS = PHI_4_MINI | {"num_attention_heads": 24, "partial_rotary_factor": 0.75}


@pytest.mark.parametrize("architecture", ["PhiForCausalLM", "Phi3ForCausalLM"])
@pytest.mark.parametrize("variant", ROWS, ids=lambda v: v.short_name)
def test_takes_the_models_that_the_builder_makes(architecture: str, variant: Any) -> None:
    assert FORMAT.refusal(PHI_4_MINI_HEADS | {"architectures": [architecture]}, variant) is None


@pytest.mark.parametrize("architecture", ["Phi3SmallForCausalLM", "Phi3VForCausalLM", "Phi4MMForCausalLM"])
def test_refuses_the_others_by_name(architecture: str) -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"architectures": [architecture]}, INT4)
    assert reason is not None
    assert reason.startswith(f"onnxruntime-genai's builder does not support {architecture}; ")


@pytest.mark.parametrize("architecture", ["PhiMoEForCausalLM", "PhimoeForCausalLM"])
@pytest.mark.parametrize("variant", [INT4, CUDA_INT4], ids=lambda v: v.short_name)
def test_refuses_the_mixture_of_experts_by_the_builder_s_own_limits(architecture: str, variant: Any) -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"architectures": [architecture]}, variant)
    for_processors = "QMoE for processors takes no third matrix of an expert, and no SparseMixer"
    assert (
        reason
        == "onnxruntime-genai's builder makes Phi's mixture of experts "
        + {
            "cpu": f"for CUDA alone: onnxruntime's {for_processors}",
            "cuda": "with QMoE for CUDA, which phi-bot has not held against the original yet",
        }[variant.target]
    )
    reason = FORMAT.refusal(PHI_4_MINI | {"architectures": [architecture], "rope_scaling": None}, variant)
    assert reason == (
        "onnxruntime-genai's builder makes Phi's mixture of experts only with LongRoPE, which this one does not use"
    )


@pytest.mark.parametrize(
    ("rope", "longest", "switch", "fits"),
    [
        ({"type": "longrope"}, 131072, 4096, True),
        ({"type": "longrope"}, 4096, 4096, False),
        (None, 16384, 16384, True),
        (None, 16384, 4096, True),
        (None, 16384, None, True),
    ],
)
def test_the_builder_knows_longrope_by_two_lengths(rope: Json, longest: int, switch: int | None, fits: bool) -> None:
    lengths = {"max_position_embeddings": longest, "original_max_position_embeddings": switch}
    reason = FORMAT.refusal(PHI_4_MINI_HEADS | {"rope_scaling": rope} | lengths, INT4)
    assert (reason is None) == fits
    assert fits or f"and both are {switch}" in str(reason)


def test_refuses_a_rope_scaling_that_the_builder_does_not_know() -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"rope_scaling": {"type": "yarn"}}, INT4)
    assert reason == "onnxruntime-genai's builder does not know rope scaling of type 'yarn' in a Phi model"
    assert FORMAT.refusal(PHI_4_MINI | {"rope_scaling": None}, INT4) is None


@pytest.mark.parametrize(
    ("shape", "rotated"),
    [
        ({"hidden_size": 256, "num_attention_heads": 8, "partial_rotary_factor": 0.75}, 24),
        ({"hidden_size": 256, "num_attention_heads": 8, "rope_parameters": {"partial_rotary_factor": 0.75}}, 24),
        ({"hidden_size": 640, "num_attention_heads": 8}, None),  # 80
        ({"hidden_size": 640, "num_attention_heads": 8, "head_dim": 40}, 40),
        ({"hidden_size": 2560, "num_attention_heads": 32, "partial_rotary_factor": 0.4}, None),  # 32, as Phi-2
        ({"hidden_size": 3072, "num_attention_heads": 24, "partial_rotary_factor": 0.75}, None),  # 96, as Phi-4-mini
        ({"hidden_size": 3072, "num_attention_heads": 32, "partial_rotary_factor": float("nan")}, None),
        ({"hidden_size": 3072, "num_attention_heads": 32, "partial_rotary_factor": "all"}, None),
        ({"hidden_size": "wide", "num_attention_heads": -1}, None),
    ],
)
def test_refuses_heads_that_group_query_attention_does_not_rotate(shape: dict[str, Json], rotated: int | None) -> None:
    config = {k: v for k, v in PHI_4_MINI.items() if k != "rope_scaling"} | shape
    expected = (
        None
        if rotated is None
        else f"onnxruntime's GroupQueryAttention rotates a multiple of 16 dimensions of a head, not {rotated}"
    )
    assert FORMAT.refusal(config, INT4) == expected


def test_refuses_k_quants_of_rows_that_do_not_divide() -> None:
    config = PHI_4_MINI | {"hidden_size": 288, "num_attention_heads": 3}
    assert FORMAT.refusal(config, INT4) is None
    assert (
        FORMAT.refusal(config, MIXED) == "onnxruntime's k_quant wants hidden_size to be a multiple of 64, and it is 288"
    )


def test_one_repo_holds_a_folder_per_target() -> None:
    assert {FORMAT.repo_suffix(v) for v in ROWS} == {"-onnx"}
    assert FORMAT.path_in_repo(CUDA_INT4) == "cuda-int4"
    assert len({FORMAT.path_in_repo(v) for v in ROWS}) == len(ROWS)


def test_every_row_names_the_device_that_its_builder_option_needs() -> None:
    assert {(v.target, v.options["execution_provider"]) for v in ROWS} == {
        *((target, target) for target in ("cpu", "cuda", "dml", "webgpu")),
        ("trtrtx", "NvTensorRtRtx"),
    }


def test_whatever_the_runtime_may_not_offer_is_proven_on_a_device_that_it_does() -> None:
    said = {target: format_folders.on_device("onnx", target) for target in {v.target for v in ROWS}}
    assert {target for target, device in said.items() if "provider" not in device} == {"cpu"}
    assert {device["proven_on"] for device in said.values() if "provider" in device} == {"cpu"}


def test_nothing_is_left_out_of_the_gate() -> None:
    assert FORMAT.known_behaviours(PHI_4_MINI) == ()


def test_the_worker_counts_a_runtime_s_memory_as_planning_does() -> None:
    """It runs where bot.formats.onnx.format is not imported, so the numbers stand in both."""
    assert (FORMAT.reading.held, FORMAT.reading.states) == (at_once.LOADED, at_once.STATES)
