"""What a Hub does by itself: jobs, the clock that starts them, and the changes that start them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bot.hub.local.jobs import Jobs
from bot.hub.local.schedules import Schedules
from bot.hub.local.store import LocalHub
from bot.hub.local.webhooks import Webhooks


@dataclass(frozen=True, kw_only=True)
class Automation:
    """The jobs of a Hub, and what starts them."""

    jobs: Jobs
    schedules: Schedules
    webhooks: Webhooks


@contextmanager
def automation(hub: LocalHub, *, runs: bool) -> Iterator[Automation]:
    """Run jobs until the block ends, and end those that are left; without ``runs`` they can only be looked at."""
    jobs = Jobs(hub, runs=runs)
    schedules = Schedules(jobs)
    try:
        yield Automation(jobs=jobs, schedules=schedules, webhooks=Webhooks(jobs))
    finally:
        schedules.close()
        jobs.close()
