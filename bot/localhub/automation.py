"""Tasks that a Hub does by itself: jobs, the clock that starts them, and the changes that start them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bot.localhub.garbage import GarbageCollector
from bot.localhub.jobs import Jobs
from bot.localhub.schedules import Schedules
from bot.localhub.store import LocalHub
from bot.localhub.webhooks import Webhooks


@dataclass(frozen=True, kw_only=True)
class Automation:
    """The jobs of a Hub, what starts them, and who removes what nothing uses."""

    jobs: Jobs
    schedules: Schedules
    webhooks: Webhooks
    garbage: GarbageCollector


@contextmanager
def automation(hub: LocalHub, *, runs: bool) -> Iterator[Automation]:
    """Run jobs until the block ends, and end those that are left; without ``runs`` they can only be looked at."""
    jobs = Jobs(hub, runs=runs)
    schedules = Schedules(jobs)
    garbage = GarbageCollector(hub)
    try:
        yield Automation(jobs=jobs, schedules=schedules, webhooks=Webhooks(jobs), garbage=garbage)
    finally:
        garbage.close()
        schedules.close()
        jobs.close()
