"""The rule of the verdict, by examples and for any figures."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.reconvert.records import SideMeasurement
from bot.reconvert.verdict import ERRORS, ORDER, refused_on_both_sides, resized, verdict
from tests.reconvert.examples import figure, measured, row

context = st.floats(0, 10)
errors = st.floats(1e-9, 1)
figures = st.builds(figure, context, errors)


def test_a_difference_of_more_than_three_errors_is_one() -> None:
    # Both errors are 0.003 and 0.004, so that of their difference is 0.005.
    base = measured(figure(0.100, 0.003))
    assert verdict(base, measured(figure(0.1149, 0.004))) == "same"
    assert verdict(base, measured(figure(0.1151, 0.004))) == "worse"
    assert verdict(base, measured(figure(0.0851, 0.004))) == "same"
    assert verdict(base, measured(figure(0.0849, 0.004))) == "better"


def test_worse_on_one_side_of_the_switch_is_worse() -> None:
    base = measured(figure(0.1), figure(0.1, side="long"))
    assert verdict(base, measured(figure(0.05), figure(0.15, side="long"))) == "worse"
    assert verdict(base, measured(figure(0.05), figure(0.1, side="long"))) == "better"


def test_equal_hashes_end_the_question() -> None:
    one, other = measured(figure(0.1), digest="a"), measured(figure(0.9), digest="a")
    assert verdict(one, other) == "same bytes"
    assert verdict(measured(figure(0.1), digest="a"), measured(figure(0.1), digest="b")) == "same"


def test_without_any_error_every_difference_is_one() -> None:
    assert verdict(measured(figure(0.0, 0.0)), measured(figure(0.0, 0.0))) == "same"
    assert verdict(measured(figure(0.0, 0.0)), measured(figure(1e-6, 0.0))) == "worse"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, measured(figure(0.1)), "new"),
        (SideMeasurement(status="refused"), measured(figure(0.1)), "new"),
        (SideMeasurement(status="failed"), measured(figure(0.1)), "better"),
        (measured(figure(0.1)), None, "gone"),
        (measured(figure(0.1)), SideMeasurement(status="refused"), "refused"),
        (measured(figure(0.1)), SideMeasurement(status="failed"), "failed"),
        (measured(figure(0.1)), SideMeasurement(status="outside the gate", figures=(figure(0.5),)), "fails the gate"),
        (None, SideMeasurement(status="outside the gate"), "fails the gate"),
        (SideMeasurement(status="outside the gate", figures=(figure(0.5),)), measured(figure(0.1)), "better"),
        (SideMeasurement(status="outside the gate", figures=(figure(0.1),)), measured(figure(0.1)), "same"),
    ],
)
def test_an_unverified_variant_has_a_verdict_too(
    before: SideMeasurement | None, after: SideMeasurement, expected: str
) -> None:
    assert verdict(before, after) == expected


@given(figures, figures)
def test_the_other_way_round_it_is_the_other_verdict(one, other) -> None:  # type: ignore[no-untyped-def]
    opposite = {"better": "worse", "worse": "better", "same": "same"}
    assert verdict(measured(other), measured(one)) == opposite[verdict(measured(one), measured(other))]


@given(context, errors, errors, st.floats(-0.99 * ERRORS, 0.99 * ERRORS))
def test_within_the_error_nothing_is_said(mean: float, one: float, other: float, by: float) -> None:
    after = mean + by * math.hypot(one, other)
    assert verdict(measured(figure(mean, one)), measured(figure(after, other))) == "same"


@given(context, errors, st.floats(1.01 * ERRORS, 100))
def test_larger_errors_never_find_a_difference_that_smaller_ones_do_not(mean: float, error: float, by: float) -> None:
    far = mean + by * math.hypot(error, error)
    assert verdict(measured(figure(mean, error)), measured(figure(far, error))) == "worse"
    assert verdict(measured(figure(mean, by * error)), measured(figure(far, by * error))) == "same"


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_a_size_is_said_to_change_from_half_a_percent_on(before: int, after: int) -> None:
    share = resized(row("gguf/a", measured(figure(0.1), size=before), measured(figure(0.1), size=after)))
    assert (share is None) == (abs(after / before - 1) <= 0.005)


def test_a_variant_that_was_refused_before_is_not_counted_for_the_change() -> None:
    refused = SideMeasurement(status="refused", reason="no such architecture")
    assert refused_on_both_sides(row("onnx/a", refused, refused))
    assert not refused_on_both_sides(row("onnx/a", measured(figure(0.1)), refused))
    assert not refused_on_both_sides(row("onnx/a", None, refused))


def test_every_verdict_has_its_place() -> None:
    assert len(set(ORDER)) == len(ORDER) == 9
