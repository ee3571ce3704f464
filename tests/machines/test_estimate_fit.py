"""Least squares without negative coefficients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.estimates.fit import fit, value

sizes = st.floats(0.1, 10)
rows_of_three = st.lists(st.tuples(st.just(1.0), sizes, sizes), min_size=6, max_size=12)
costs = st.tuples(*[st.one_of(st.just(0.0), st.floats(0.5, 100))] * 3)


@given(rows_of_three, costs)
def test_the_coefficients_behind_the_values_are_found_again(
    rows: list[tuple[float, ...]], made_with: tuple[float, ...]
) -> None:
    values = [value(made_with, row) for row in rows]
    found = fit(rows, values, floor=1e-3)
    assert [value(found, row) for row in rows] == pytest.approx(values, rel=1e-3, abs=1e-3)


def test_the_coefficients_are_those_of_the_columns() -> None:
    rows = [(1, 1, 0), (1, 2, 0), (1, 4, 1), (1, 8, 3), (1, 16, 1)]
    values = [3 + 0.5 * a + 7 * b for _, a, b in rows]
    assert fit(rows, values, floor=1) == pytest.approx((3, 0.5, 7))


@given(rows_of_three, st.lists(st.floats(-50, 1000), min_size=12, max_size=12), st.lists(sizes, min_size=3, max_size=3))
def test_no_coefficient_is_below_zero_and_no_others_come_nearer(
    rows: list[tuple[float, ...]], noisy: list[float], others: list[float]
) -> None:
    values = noisy[: len(rows)]
    found = fit(rows, values, floor=1.0)
    assert min(found) >= 0

    def error(coefficients: list[float]) -> float:
        pairs = zip(rows, values, strict=True)
        return sum(((value(coefficients, row) - v) / max(abs(v), 1.0)) ** 2 for row, v in pairs)

    for step in (0.01, -0.01):
        for i in range(3):
            nearby = [max(0.0, c + step * (i == n)) for n, c in enumerate(found)]
            assert error(list(found)) <= error(nearby) + 1e-6
    assert error(list(found)) <= error(others) + 1e-6


def test_small_values_count_as_much_as_large_ones() -> None:
    """What is fitted is the relative error: the largest model would decide alone otherwise."""
    rows, values = [(1, 1), (1, 10), (1, 1000)], [11.0, 20.0, 1500.0]
    fixed, slope = fit(rows, values, floor=0.1)
    assert value((fixed, slope), rows[0]) == pytest.approx(11, rel=0.15)


def test_columns_that_nothing_tells_apart_give_a_fit_all_the_same() -> None:
    rows = [(1, 2, 4), (1, 3, 6), (1, 5, 10)]
    found = fit(rows, [5, 7, 11], floor=0.1)
    assert [value(found, row) for row in rows] == pytest.approx([5, 7, 11])


def test_of_several_fits_it_is_the_same_on_every_processor() -> None:
    """Rounding does not choose: not in other orders of the columns, nor for values that differ by its errors."""
    rows, values = [(1.0, 2e5, 2e7), (1.0, 2e5, 6e7), (1.0, 2e5, 2e8)], [5.0, 13.0, 41.0]
    fixed, wide, slope = fit(rows, values, floor=0.1)
    assert fixed == pytest.approx(wide * 2e5, rel=1e-3)
    assert fit([row[::-1] for row in rows], values, floor=0.1)[::-1] == pytest.approx((fixed, wide, slope), rel=1e-3)
    assert fit(rows, [v * (1 + 1e-15) for v in values], floor=0.1) == pytest.approx((fixed, wide, slope), rel=1e-3)


def test_nothing_costs_nothing() -> None:
    assert fit([(1, 2), (1, 5)], [0, 0], floor=1) == (0, 0)
