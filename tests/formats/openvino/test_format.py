"""What the steps learn of OpenVINO: what it refuses, how large it will be, where it goes."""

from typing import Any

import pytest

from bot import catalogue
from bot.formats.openvino.format import FORMAT
from tests.formats.examples import PHI_4_MINI

ROWS = [v for v in catalogue.all_variants().values() if v.format == "openvino"]
INT4, CHANNELS, INT8, FP16 = (catalogue.all_variants()[f"openvino/{n}"] for n in ("int4", "int4-cw", "int8", "fp16"))


@pytest.mark.parametrize(
    "architecture", ["PhiForCausalLM", "Phi3ForCausalLM", "PhiMoEForCausalLM", "PhimoeForCausalLM"]
)
@pytest.mark.parametrize("variant", ROWS, ids=lambda v: v.short_name)
def test_takes_the_models_that_optimum_exports(architecture: str, variant: Any) -> None:
    assert FORMAT.refusal(PHI_4_MINI | {"architectures": [architecture]}, variant) is None


@pytest.mark.parametrize("architecture", ["Phi3SmallForCausalLM", "Phi3VForCausalLM", "Phi4MMForCausalLM"])
def test_refuses_the_others_by_name(architecture: str) -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"architectures": [architecture]}, INT4)
    assert reason is not None
    assert reason.startswith(f"optimum-intel does not support {architecture}; ")


def test_refuses_a_rope_scaling_that_no_phi_has() -> None:
    reason = FORMAT.refusal(PHI_4_MINI | {"rope_scaling": {"type": "yarn"}}, INT4)
    assert reason == "optimum-intel's export is not known to be right for rope scaling of type 'yarn' in a Phi model"


def test_refuses_rows_that_do_not_divide_into_groups() -> None:
    config = PHI_4_MINI | {"hidden_size": 288}
    assert FORMAT.refusal(config, INT4) == "nncf wants hidden_size to be a multiple of 64, and it is 288"
    assert {FORMAT.refusal(config, v) for v in (CHANNELS, INT8, FP16)} == {None}


def test_each_precision_has_a_repo_of_its_own() -> None:
    assert [FORMAT.repo_suffix(v) for v in ROWS] == ["-int4-ov", "-int4-cw-ov", "-int8-ov", "-fp16-ov", "-fp32-ov"]
    assert {FORMAT.path_in_repo(v) for v in ROWS} == {""}


def test_nothing_is_left_out_of_the_gate() -> None:
    assert FORMAT.known_behaviours(PHI_4_MINI) == ()
