"""Bounds: how many jobs a run may begin, and what they may cost."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from bot.config.machines import PlanTable
from bot.records.plans import Job, Postponed

_URGENCY = ("new", "changed", "outdated")


def within_bounds(jobs: Sequence[Job], bounds: PlanTable) -> tuple[list[Job], list[Postponed]]:
    """Return the jobs that a run may begin, in their order, and what is left for the next one.

    New releases go before changed ones, and those before outdated ones. A job that is over a bound does not hold up
    cheaper ones behind it.
    """
    cost_of = {n: job.placement.cost if job.placement is not None else 0.0 for n, job in enumerate(jobs)}
    count, spent = Counter[str](), defaultdict[str, float](float)  # by model, and "" for all of them
    kept: set[int] = set()
    postponed: list[Postponed] = []
    for number in sorted(cost_of, key=lambda n: _urgency(jobs[n])):
        job, cost = jobs[number], cost_of[number]
        model = job.release.repo_id
        over = [
            *_over(bounds.max_jobs, bounds.max_cost, count[""], spent[""] + cost, "plan.max_jobs", "plan.max_cost"),
            *_over(
                bounds.max_jobs_per_model,
                bounds.max_cost_per_model,
                count[model],
                spent[model] + cost,
                "plan.max_jobs_per_model",
                "plan.max_cost_per_model",
            ),
        ]
        if over:
            postponed += [
                Postponed(release=job.release.label, planned=v, why="bound", text=over[0]) for v in job.variants
            ]
            continue
        kept.add(number)
        for key in ("", model):
            count[key] += 1
            spent[key] += cost
    return [job for n, job in enumerate(jobs) if n in kept], postponed


def _over(
    most_jobs: int | None, most_cost: float | None, begun: int, cost: float, jobs_key: str, cost_key: str
) -> Iterator[str]:
    """Say which bounds one more job would pass. Costs are compared to a hundred thousandth of a dollar."""
    if most_jobs is not None and begun >= most_jobs:
        yield f"{jobs_key} is {most_jobs}"
    if most_cost is not None and cost > most_cost + 1e-5:
        yield f"{cost_key} is ${most_cost:g}, and with it the jobs would cost ${cost:.4g}"


def _urgency(job: Job) -> int:
    return min(_URGENCY.index(v.reason) for v in job.variants)
