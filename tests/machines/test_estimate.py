"""What building and verifying is estimated to take, against what it took."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.estimates.learn import learn, learn_all
from benchmarks.estimates.measured import Measured, measurements
from benchmarks.estimates.report import PAGE, errors, render
from bot import catalogue
from bot.formats import recipes
from bot.formats.registry import all_formats
from bot.machines.estimate import estimate
from bot.machines.estimate_models import CostModels, class_of, expected, file_of
from bot.records.artifacts import Release, Variant
from bot.source.shape import Shape, guessed_shape
from tests.steps.jobs import release, shape

ROWS = catalogue.all_variants()
Q4, Q8 = ROWS["gguf/q4_k_m"], ROWS["gguf/q8_0"]
MINI = 3_821_079_552

variants = st.sampled_from([*ROWS.values(), *recipes.configured(ROWS.values(), "measured")])


def named(row: Measured) -> str:
    return f"{row.variant} {row.shape.count / 1e6:.0f} M"


# ---- against what was measured ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", measurements().large, ids=named)
def test_a_model_that_nothing_was_fitted_to_takes_no_more_than_is_said_and_not_much_less(row: Measured) -> None:
    for quantity, least, most in (("output", 0.8, 1.3), ("disk", 0.95, 1.5), ("memory", 0.95, 2.0)):
        measured = getattr(row, quantity)
        if measured is not None:
            said = expected("build", row.shape, ROWS[row.variant], quantity)  # type: ignore[arg-type]
            assert least * measured <= said <= most * measured, quantity


def test_a_small_runner_holds_the_builds_of_a_real_size() -> None:
    """3.8 thousand million parameters: by hand, those of ONNX and OpenVINO take 24 and 10 to 13 GB of memory."""
    for name, least in (("onnx/cpu-int4", 1.12), ("openvino/int4", 0.93)):
        assert least <= estimate(shape(MINI), [ROWS[name]]).memory / 1e9 <= 5


def test_models_that_are_left_out_are_estimated_as_the_page_says() -> None:
    """Sizes between others; the smallest and the largest are extrapolated, which the page shows."""
    typical = {(e.what, e.format, e.quantity): e.typical for e in errors()}
    assert max(typical[key] for key in typical if key[0] == "build" and key[2] == "memory") < 0.35
    assert typical[("reference", "", "cpu_seconds")] < 0.35


def test_the_page_is_the_one_made_from_the_measurements() -> None:
    assert render() == PAGE.read_text(encoding="utf-8"), "make measurements"


def test_the_models_are_those_that_the_measurements_give() -> None:
    learned = learn_all().models
    kept = [
        model
        for name in dict.fromkeys(new.format for new in learned)
        for model in CostModels.from_json(json.loads(file_of(name).read_text(encoding="utf-8"))).models
    ]
    there = {(old.what, old.format, old.quantity): old for old in kept}
    assert len(there) == len(learned) == len(kept)
    for new in learned:
        old = there[new.what, new.format, new.quantity]
        assert new.fixed == pytest.approx(old.fixed, rel=1e-6, abs=1e-3)
        assert new.slopes == pytest.approx(old.slopes, rel=1e-6)
        assert new.caution == pytest.approx(old.caution, rel=1e-6)


# ---- what an estimate is -----------------------------------------------------------------------------------------


@given(variants, st.integers(10**7, 10**11), st.integers(2, 9))
def test_a_larger_model_never_takes_less(variant: Variant, parameters: int, times: int) -> None:
    small, large = estimate(shape(parameters), [variant]), estimate(shape(parameters * times), [variant])
    for quantity in ("output", "disk", "memory", "cpu_seconds"):
        assert 0 <= getattr(small, quantity) <= getattr(large, quantity)


def test_a_format_without_measurements_counts_as_the_most_expensive_one() -> None:
    unknown = estimate(shape(MINI), [replace(Q4, name="toy/int4")])
    known = [estimate(shape(MINI), [replace(Q4, name=f"{name}/int4")]) for name in all_formats()]
    assert unknown.output == max(e.output for e in known)
    assert unknown.cpu_seconds >= max(e.cpu_seconds for e in known)
    assert unknown.memory >= max(e.memory for e in known)


def test_larger_types_are_estimated_larger() -> None:
    for name in ("gguf", "onnx", "openvino", "mlx"):
        rows = sorted((v for v in ROWS.values() if v.format == name), key=lambda v: v.bits_per_weight)
        sizes = [estimate(shape(MINI), [v]).output for v in rows]
        assert all(a <= b for a, b in pairwise(sizes))


def test_outputs_and_times_of_a_job_pile_up_and_its_reference_is_computed_once() -> None:
    one, other, both = (estimate(shape(MINI), rows) for rows in ([Q4], [Q8], [Q4, Q8]))
    once = expected("reference", shape(MINI), None, "cpu_seconds")
    assert both.output == pytest.approx(one.output + other.output, abs=2)
    assert both.cpu_seconds == pytest.approx(one.cpu_seconds + other.cpu_seconds - once, abs=0.2)
    assert both.memory == max(one.memory, other.memory)
    assert both.disk == max(one.disk, other.disk)


def test_a_variant_that_tries_a_matrix_is_built_and_verified_twice() -> None:
    plain, trial, measured = (estimate(shape(MINI), [v]) for v in (Q4, recipes.with_trial(Q4), Q8))
    once = expected("reference", shape(MINI), None, "cpu_seconds")
    assert trial.output == plain.output
    assert trial.disk == pytest.approx(measured.disk + plain.output, abs=2)
    assert trial.cpu_seconds == pytest.approx(2 * plain.cpu_seconds + measured.cpu_seconds - 2 * once, abs=0.3)
    assert trial.memory == measured.memory, "the model of 8 bits is run"


def test_the_model_that_a_matrix_is_measured_on_is_there_before_the_outputs() -> None:
    smallest, all_rows = ROWS["gguf/iq2_m"], [v for v in ROWS.values() if v.format == "gguf"]
    alone, measured = estimate(shape(MINI), [smallest]), estimate(shape(MINI), [Q8])
    assert alone.output + alone.disk == pytest.approx(measured.output, abs=2)
    scratch = max(estimate(shape(MINI), [v]).disk for v in all_rows if not recipes.takes_matrix(v))
    assert estimate(shape(MINI), all_rows).disk == scratch, "it fits where the outputs will be"


def test_no_build_needs_scratch_that_grows_with_the_model() -> None:
    for name in ("gguf/q4_k_m", "onnx/cpu-int4", "openvino/int4", "mlx/4bit"):
        assert estimate(shape(MINI), [ROWS[name]]).disk < 0.1e9


def test_a_checkpoint_in_float32_has_half_the_parameters_for_its_size() -> None:
    half = release(10**9)
    full = replace(
        half,
        config=half.config | {"torch_dtype": "float32"},
        files=tuple(replace(f, size=2 * f.size) for f in half.files),
    )
    assert estimate(guessed_shape(half), [Q4]) == estimate(guessed_shape(full), [Q4])


@pytest.mark.parametrize("nonsense", ["big", -1, True, [], None, 10**40])
def test_a_config_of_nonsense_still_gives_an_estimate(nonsense: Any) -> None:
    of: Release = release(10**6)
    keys = ("hidden_size", "vocab_size", "intermediate_size", "torch_dtype", "num_hidden_layers")
    found = estimate(guessed_shape(replace(of, config=dict.fromkeys(keys, nonsense))), [Q4])
    assert 0 < found.output < 10**12
    assert 0 < found.memory < 10**12


# ---- what a model makes of measurements ----------------------------------------------------------------------------


def rows_that_take(memory: dict[str, float]) -> list[Measured]:
    """Builds of four sizes, of which memory is so many bytes a parameter by variant, and 1 GB in any case."""
    return [
        Measured(what="build", variant=name, shape=shape(count), memory=round(10**9 + each * count))
        for count in (10**8, 3 * 10**8, 10**9, 4 * 10**9)
        for name, each in memory.items()
    ]


def test_the_parameters_behind_the_measurements_are_learnt() -> None:
    made = learn(rows_that_take({"gguf/q4_k_m": 3.0, "gguf/q8_0": 5.0}), "memory")
    assert made.at(shape(2 * 10**9), Q4) == pytest.approx(7e9, rel=1e-3)
    assert made.at(shape(2 * 10**9), Q8) == pytest.approx(11e9, rel=1e-3)
    assert made.upto == 4 * 10**9


def test_a_class_that_was_not_measured_takes_the_dearest_that_was() -> None:
    made = learn(rows_that_take({"gguf/q4_k_m": 3.0, "gguf/q8_0": 5.0}), "memory")
    assert class_of("memory", ROWS["gguf/f16"]) not in made.slopes
    assert made.at(shape(2 * 10**9), ROWS["gguf/f16"]) == made.at(shape(2 * 10**9), Q8)


def test_files_of_floating_point_are_counted_by_their_bytes() -> None:
    made = learn(rows_that_take({"onnx/cpu-fp32": 4.0}), "memory")
    single, half = made.at(shape(10**9), ROWS["onnx/cpu-fp32"]), made.at(shape(10**9), ROWS["onnx/cuda-fp16"])
    assert single - 10**9 == pytest.approx(2 * (half - 10**9), rel=1e-3)


def test_rows_without_a_measurement_are_not_learnt_from() -> None:
    rows = [replace(r, memory=None) if r.shape.count == 10**8 else r for r in rows_that_take({"gguf/q8_0": 5.0})]
    assert learn(rows, "memory").at(Shape(**vars(shape(10**9))), Q8) == pytest.approx(6e9, rel=1e-3)
