"""Which variants are quantized by an importance matrix, and when that makes them others."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from bot import catalogue, toolchains
from bot.formats import recipes
from bot.formats.importance import Importance
from bot.formats.recipes import (
    alternatives,
    chooses_types,
    configured,
    is_tried,
    key_of,
    measured_on,
    needs_matrix,
    possible,
    takes_matrix,
    text_digest,
    with_calibration,
    with_trial,
)
from bot.formats.registry import all_formats
from bot.records.digests import build_key

ROWS = catalogue.all_variants()
Q4_K_M, Q8_0 = (ROWS[f"gguf/{name}"] for name in ("q4_k_m", "q8_0"))
RELEASE = "0" * 64


def test_variants_of_three_bits_and_less_take_one() -> None:
    taking = {v.short_name for v in ROWS.values() if needs_matrix(v)}
    bits = {"int2", "int3"}
    assert taking - {"iq4_xs"} == {v.short_name for v in ROWS.values() if v.format == "gguf" and v.precision in bits}


def test_a_row_that_takes_one_is_of_a_format_that_measures_one() -> None:
    for row in ROWS.values():
        assert not takes_matrix(row) or measured_on(row.format) in ROWS
    assert not takes_matrix(ROWS[measured_on("gguf")])
    with pytest.raises(LookupError, match="onnx measures no importance matrix"):
        measured_on("onnx")


def test_a_format_names_the_precisions_that_may_gain_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS["onnx/cpu-int4"]
    offered = Importance(command="weigh", measured_on="cpu-int8", file="scales.bin", tried=("int4",))
    assert with_trial(row) == row
    monkeypatch.setattr(all_formats()["onnx"], "importance", offered)
    assert is_tried(with_trial(row))
    assert with_trial(ROWS["onnx/cpu-int8"]) == ROWS["onnx/cpu-int8"]
    assert measured_on("onnx") == "onnx/cpu-int8"
    before = key_of(RELEASE, with_trial(row))
    monkeypatch.setattr(all_formats()["onnx"], "importance", replace(offered, version=2))
    assert key_of(RELEASE, with_trial(row)) != before
    lock, version = toolchains.lock_digest("onnx"), all_formats()["onnx"].version
    assert key_of(RELEASE, row) == build_key(
        content_digest=RELEASE, variant=row, toolchain_digest=lock, format_version=version
    )


def test_those_of_four_to_six_bits_try_one_where_that_is_configured() -> None:
    trying = {v.short_name for v in configured(ROWS.values(), "measured") if is_tried(v)}
    assert trying == {"q4_0", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"}
    assert configured(ROWS.values(), "never") == tuple(ROWS.values())


def test_rows_whose_format_can_do_it_are_calibrated_where_that_is_configured() -> None:
    rows = configured(ROWS.values(), "never", "calibrated")
    of_onnx = {f"onnx/{name}-int4" for name in ("cpu", "cuda", "dml", "webgpu")} | {"onnx/cpu-int4-mixed"}
    calibrated = {v.name for v in rows if v.is_calibrated}
    assert {"mlx/4bit", "gguf/q4_k_m", "gguf/q6_k", "gguf/q3_k_m", "openvino/int4"} | of_onnx <= calibrated
    assert not {"mlx/8bit", "gguf/q8_0", "gguf/f16", "onnx/cpu-int8", "openvino/int4-cw"} & calibrated
    assert [v for v in rows if not v.is_calibrated] == [v for v in ROWS.values() if v.name not in calibrated]
    assert configured(ROWS.values(), "never", "plain") == tuple(ROWS.values())
    assert configured(rows, "never", "calibrated") == rows


def test_a_calibrated_row_takes_no_importance_matrix() -> None:
    for row in ROWS.values():
        calibrated = with_calibration(row)
        assert with_calibration(with_trial(row)) == calibrated
        assert not (calibrated.is_calibrated and takes_matrix(calibrated))


def test_all_that_a_configuration_can_make_of_a_row_is_possible() -> None:
    for row in ROWS.values():
        assert set(map(repr, possible(row))) == {repr(row), repr(with_trial(row)), repr(with_calibration(row))}


def test_a_calibrated_variant_has_another_key_and_another_text_another_one_still(
    another_text: Callable[[], None],
) -> None:
    row = ROWS["mlx/4bit"]
    before = {key_of(RELEASE, row), key_of(RELEASE, with_calibration(row))}
    assert len(before) == 2
    another_text()
    assert key_of(RELEASE, row) in before
    assert key_of(RELEASE, with_calibration(row)) not in before


def test_mixes_of_types_are_chosen_where_their_format_can_do_it_and_have_a_key_of_their_own() -> None:
    found = with_calibration(Q4_K_M)
    assert chooses_types(found)
    assert found.options["ftype"] == "Q4_K_M"
    assert not any(chooses_types(v) for v in (Q4_K_M, with_calibration(ROWS["gguf/q4_k_s"]), with_calibration(Q8_0)))
    others = {v.name for v in ROWS.values() if v.format != "gguf" and chooses_types(with_calibration(v))}
    assert others == {"onnx/cpu-int4", "openvino/int4"}
    own = replace(found, options={k: v for k, v in found.options.items() if k != "types"})
    assert key_of(RELEASE, found) != key_of(RELEASE, own) != key_of(RELEASE, Q4_K_M)


def test_what_finds_the_costs_of_rounding_is_in_the_key_of_chosen_types_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, calibrated = with_calibration(Q4_K_M), with_calibration(ROWS["gguf/q4_k_s"])
    before = key_of(RELEASE, chosen), key_of(RELEASE, calibrated)
    monkeypatch.setattr(recipes, "_WEIGHING", 0)
    assert key_of(RELEASE, chosen) != before[0]
    assert key_of(RELEASE, calibrated) == before[1]


def test_no_build_key_is_another_one_by_accident() -> None:
    """What is published is built anew where its key changes.

    Renew the digest in the commit that means to change a recipe, a lock, a format's version or the text of training, or
    that adds a row. No other commit may.
    """
    keys = "\n".join(f"{name} {key_of('a' * 64, row)}" for name, row in sorted(ROWS.items()))
    digest = hashlib.sha256(keys.encode()).hexdigest()
    assert digest == "fb513953e884aa750c035c96a0feb2772642d7370bb1e23aa452317d4f0f1809"


def test_trying_a_recipe_again_does_not_change_it() -> None:
    for row in ROWS.values():
        assert with_trial(with_trial(row)) == with_trial(row)
        assert not (needs_matrix(row) and is_tried(with_trial(row)))


def test_the_alternatives_are_the_row_itself_and_one_with_a_matrix() -> None:
    plain, weighted = alternatives(with_trial(Q4_K_M))
    assert plain == Q4_K_M
    assert weighted.options == {"ftype": "Q4_K_M", "imatrix": True}
    assert weighted.name != plain.name
    assert needs_matrix(weighted)


# ---- build keys --------------------------------------------------------------------------------------------------


def test_a_tried_variant_has_another_key() -> None:
    keys = {key_of(RELEASE, v) for v in (Q4_K_M, with_trial(Q4_K_M), alternatives(with_trial(Q4_K_M))[1])}
    assert len(keys) == 3
    assert key_of(RELEASE, with_trial(Q8_0)) == key_of(RELEASE, Q8_0)


def test_another_text_is_another_key_of_those_that_take_a_matrix_alone(another_text: Callable[[], None]) -> None:
    variants = [*ROWS.values(), *configured(ROWS.values(), "measured")]
    before, text = [key_of(RELEASE, v) for v in variants], text_digest()
    another_text()
    assert text_digest() != text
    for variant, key in zip(variants, before, strict=True):
        assert (key_of(RELEASE, variant) != key) == takes_matrix(variant)


def test_a_matrix_is_part_of_the_key_only_of_variants_that_take_one() -> None:
    for row in ROWS.values():
        form, lock = all_formats()[row.format], toolchains.lock_digest(row.format)
        plain = build_key(content_digest=RELEASE, variant=row, toolchain_digest=lock, format_version=form.version)
        assert (key_of(RELEASE, row) == plain) == (not takes_matrix(row))
