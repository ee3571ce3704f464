"""What the steps learn of PyTorch: what it refuses, where it goes, and that it is built where it is asked for."""

from typing import Any

import pytest

from bot import catalogue
from bot.formats.torch.format import FORMAT
from tests.formats.examples import PHI_4_MINI

ROWS = [v for v in catalogue.all_variants().values() if v.format == "torch"]
W4A16, W8A8 = (catalogue.all_variants()[f"torch/{n}"] for n in ("w4a16", "w8a8"))


@pytest.mark.parametrize("architecture", ["PhiForCausalLM", "Phi3ForCausalLM"])
@pytest.mark.parametrize("variant", ROWS, ids=lambda v: v.short_name)
def test_takes_the_models_of_linear_modules(architecture: str, variant: Any) -> None:
    assert FORMAT.refusal(PHI_4_MINI | {"architectures": [architecture]}, variant) is None


@pytest.mark.parametrize("architecture", ["PhiMoEForCausalLM", "PhimoeForCausalLM"])
def test_refuses_mixtures_and_says_why(architecture: str) -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"architectures": [architecture]}, W8A8)
    assert reason is not None
    assert reason.startswith("compressed-tensors quantizes linear modules")


def test_refuses_the_others_by_name() -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"architectures": ["Phi4MMForCausalLM"]}, W8A8)
    assert reason is not None
    assert reason.startswith("compressed-tensors in transformers does not support Phi4MMForCausalLM; ")


def test_refuses_a_rope_scaling_that_no_phi_has() -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"rope_scaling": {"type": "yarn"}}, W8A8)
    assert reason == "transformers is not known to be right for rope scaling of type 'yarn' in a Phi model"


def test_refuses_rows_that_do_not_divide_into_groups() -> None:
    odd = PHI_4_MINI | {"intermediate_size": 8256}
    reason = "torch/w4a16, with groups of 128 columns, wants intermediate_size to be a multiple of 128, and it is 8256"
    assert (FORMAT.refusal(odd, W4A16), FORMAT.refusal(odd, W8A8)) == (reason, None)
    heads = PHI_4_MINI | {"num_attention_heads": 3, "head_dim": 96}
    reason = "groups are of 128 columns, and the heads of attention have 3 * 96 = 288"
    assert (FORMAT.refusal(heads, W4A16), FORMAT.refusal(heads, W8A8)) == (reason, None)


@pytest.mark.parametrize("given", ["many", True, -1, None, [128], {}])
def test_sizes_that_are_no_sizes_are_no_error(given: Any) -> None:
    assert FORMAT.refusal(PHI_4_MINI | {"head_dim": given, "num_attention_heads": given}, W4A16) is None


def test_each_precision_has_a_repo_of_its_own() -> None:
    assert [FORMAT.repo_suffix(v) for v in ROWS] == ["-quantized.w4a16", "-quantized.w8a8"]
    assert {FORMAT.path_in_repo(v) for v in ROWS} == {""}


def test_it_is_built_where_it_is_asked_for() -> None:
    assert catalogue.select(["torch"]) == tuple(ROWS)
    assert not {v.format for v in catalogue.select(["default"])} & {"torch"}


@pytest.mark.parametrize(("file", "needed"), [(2e9, 18e9), (4e9, 20e9)], ids=["w4a16", "w8a8"])
def test_a_plan_counts_32_bits_for_each_weight_beside_the_file(file: float, needed: float) -> None:
    assert FORMAT.reading.memory({}, file, weights=4 * 10**9) == needed


def test_nothing_is_left_out_of_the_gate() -> None:
    assert FORMAT.known_behaviours(PHI_4_MINI) == ()
