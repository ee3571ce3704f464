"""How much of a plan one run may begin."""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config.machines import PlanTable
from bot.machines.run_limits import within_bounds
from bot.records.plans import Job, Placement
from tests.steps.jobs import job, release

Reason = Literal["new", "changed", "outdated"]


def costing(cost: float, model: str = "A", reason: Reason = "new") -> Job:
    placement = Placement(runner="hf-jobs/cpu-basic", seconds=60, cost=cost)
    return replace(job(release(10**7, name=f"Phi-{model}"), "mlx/4bit", reason=reason), placement=placement)


def test_without_bounds_everything_is_begun() -> None:
    jobs = [costing(1), costing(2)]
    assert within_bounds(jobs, PlanTable()) == (jobs, [])


def test_new_releases_go_before_changed_ones_and_those_before_outdated_ones() -> None:
    jobs = [costing(1, "A", "outdated"), costing(1, "B", "changed"), costing(1, "C", "new"), costing(1, "D", "new")]
    kept, postponed = within_bounds(jobs, PlanTable(max_jobs=3))
    assert [j.release.name for j in kept] == ["Phi-B", "Phi-C", "Phi-D"]  # in the order that they came in
    assert [(p.why, p.text) for p in postponed] == [("bound", "plan.max_jobs is 3")]


def test_a_bound_on_one_model_leaves_room_for_others() -> None:
    jobs = [costing(1, "A"), costing(1, "A"), costing(1, "B")]
    kept, postponed = within_bounds(jobs, PlanTable(max_jobs_per_model=1))
    assert [j.release.name for j in kept] == ["Phi-A", "Phi-B"]
    assert [p.text for p in postponed] == ["plan.max_jobs_per_model is 1"]


def test_a_job_that_is_too_expensive_does_not_hold_up_cheaper_ones() -> None:
    kept, postponed = within_bounds([costing(3), costing(9), costing(2)], PlanTable(max_cost=5))
    assert [j.placement.cost for j in kept if j.placement] == [3, 2]
    assert [p.text for p in postponed] == ["plan.max_cost is $5, and with it the jobs would cost $12"]


def test_nothing_that_costs_is_begun_with_nothing_to_spend() -> None:
    kept, postponed = within_bounds([costing(0), costing(0.01)], PlanTable(max_cost=0))
    assert [j.placement.cost for j in kept if j.placement] == [0]
    assert len(postponed) == 1


jobs_to_do = st.lists(
    st.builds(
        costing,
        st.sampled_from([0.0, 0.01, 0.1, 0.3, 2.5]),
        st.sampled_from("ABC"),
        st.sampled_from(["new", "changed", "outdated"]),
    ),
    max_size=12,
)
counts, amounts = st.none() | st.integers(1, 5), st.none() | st.sampled_from([0.0, 0.3, 1.0, 5.0])


@given(jobs_to_do, counts, amounts, counts, amounts)
def test_no_bound_is_ever_passed_and_no_job_is_lost(
    jobs: list[Job], most: int | None, cost: float | None, of_one: int | None, on_one: float | None
) -> None:
    bounds = PlanTable(max_jobs=most, max_cost=cost, max_jobs_per_model=of_one, max_cost_per_model=on_one)
    kept, postponed = within_bounds(jobs, bounds)
    assert len(kept) + len(postponed) == len(jobs)
    spent, counted = defaultdict[str, float](float), Counter(j.release.repo_id for j in kept)
    for one in kept:
        assert one.placement is not None
        spent[one.release.repo_id] += one.placement.cost
    assert most is None or len(kept) <= most
    assert cost is None or sum(spent.values()) <= cost + 1e-4
    assert of_one is None or max(counted.values(), default=0) <= of_one
    assert on_one is None or max(spent.values(), default=0) <= on_one + 1e-4
    if postponed:
        assert bounds != PlanTable()


@pytest.mark.parametrize("reason", ["new", "changed", "outdated"])
def test_a_postponed_variant_keeps_the_reason_it_was_planned_for(reason: Reason) -> None:
    _, [later] = within_bounds([costing(1, reason=reason)], PlanTable(max_cost=0))
    assert later.planned.reason == reason
    assert later.release == "microsoft/Phi-A@cccccccccccc"
