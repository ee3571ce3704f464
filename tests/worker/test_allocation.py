"""Types under a size: what costs least, and never more bytes than there is room for."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.worker.allocation import Choice, allocate, hull, largest, smallest


def choice(kind: str, size: int, cost: float) -> Choice:
    return Choice(kind=kind, size=size, cost=cost)


CHOICES = st.lists(
    st.builds(choice, st.text("abc", min_size=1, max_size=3), st.integers(1, 50), st.floats(0, 10)),
    min_size=1,
    max_size=4,
)
TENSORS = st.dictionaries(st.sampled_from("wxyz"), CHOICES, min_size=1)


def test_bytes_go_where_they_gain_most() -> None:
    choices = {
        "sensitive": [choice("3 bits", 30, 9.0), choice("4 bits", 40, 2.0), choice("6 bits", 60, 0.1)],
        "patient": [choice("3 bits", 30, 0.5), choice("4 bits", 40, 0.2), choice("6 bits", 60, 0.05)],
    }
    found = allocate(choices, 90)
    assert {name: c.kind for name, c in found.items()} == {"sensitive": "6 bits", "patient": "3 bits"}


def test_a_type_that_costs_more_than_its_neighbours_on_both_sides_is_not_taken() -> None:
    worth, not_worth = [choice("a", 10, 4.0), choice("c", 30, 0.0)], choice("b", 20, 3.0)
    assert hull([*worth, not_worth]) == worth


def test_of_two_types_of_one_size_the_better_one_counts() -> None:
    assert hull([choice("worse", 10, 2.0), choice("better", 10, 1.0)]) == [choice("better", 10, 1.0)]


def test_what_does_not_fit_leaves_its_room_to_others() -> None:
    choices = {
        "large": [choice("s", 100, 100.0), choice("l", 200, 0.0)],
        "small": [choice("s", 10, 1.0), choice("l", 20, 0.9)],
    }
    assert {name: c.kind for name, c in allocate(choices, 150).items()} == {"large": "s", "small": "l"}


def test_too_little_room_is_said() -> None:
    with pytest.raises(ValueError, match="7 bytes more than there is room for"):
        allocate({"w": [choice("a", 10, 1.0)]}, 3)


@given(TENSORS)
def test_the_smallest_and_the_largest_are_what_is_chosen_at_the_ends(choices: dict[str, list[Choice]]) -> None:
    for size in (smallest(choices), largest(choices)):
        assert sum(c.size for c in allocate(choices, size).values()) == size
    assert allocate(choices, 10**6) == allocate(choices, largest(choices))


@given(TENSORS, st.integers(0, 100))
def test_nothing_costs_less_at_the_size_that_is_used(choices: dict[str, list[Choice]], more: int) -> None:
    """Where a step did not fit, what was taken after it may be beaten; so only the way there is held to that."""
    budget = smallest(choices) + more
    found = allocate(choices, budget)
    size, cost = sum(c.size for c in found.values()), sum(c.cost for c in found.values())
    assert size <= budget
    for all_of_them in product(*choices.values()):
        if sum(c.size for c in all_of_them) <= smallest(choices):
            assert sum(c.cost for c in all_of_them) >= sum(hull(c)[0].cost for c in choices.values()) - 1e-9
    assert cost <= sum(hull(c)[0].cost for c in choices.values()) + 1e-9


@given(TENSORS, st.integers(0, 100), st.integers(0, 100))
def test_more_room_never_costs_more(choices: dict[str, list[Choice]], more: int, yet_more: int) -> None:
    budget = smallest(choices) + more
    less, larger = (sum(c.cost for c in allocate(choices, b).values()) for b in (budget, budget + yet_more))
    assert larger <= less + 1e-9


@given(TENSORS, st.integers(0, 100))
def test_the_order_in_which_tensors_come_changes_nothing(choices: dict[str, list[Choice]], more: int) -> None:
    budget = smallest(choices) + more
    backwards = {name: choices[name][::-1] for name in reversed(choices)}
    assert {n: (c.size, c.cost) for n, c in allocate(choices, budget).items()} == {
        n: (c.size, c.cost) for n, c in allocate(backwards, budget).items()
    }
