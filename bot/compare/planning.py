"""Print, as JSON, what a side would build in a namespace: ``python planning.py TASK.json``.

Run as a script with the code of that side on its path (bot/compare/rebuilds.py), in its folder. Reads the Hub without a
token, builds nothing, writes nothing. A task has ``namespace``, ``work``, and ``except``: what is due in any case.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

from bot import catalogue, config
from bot.config_machines import Planning
from bot.errors import PhiBotError
from bot.hub import client
from bot.plans import PlannedVariant
from bot.progress import Silent
from bot.records import Release
from bot.steps.means import Means
from bot.steps.run import look
from bot.steps.settle import settle
from bot.workspace import Workspace

_ON = ("github", "own")  # where workflows run


def main() -> None:
    """Print the plan, or ``{"problem": …}`` where the Hub or the configuration is in the way."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        found = plan(task["namespace"], Path(task["work"]), frozenset(task["except"]))
    except PhiBotError as error:
        found = {"problem": error.message}
    json.dump(found, sys.stdout)


def plan(namespace: str, work: Path, known: frozenset[str]) -> dict[str, object]:
    """Return the models that are watched, what is due of them, and the jobs of that which is not known to be due."""
    settings = config.load(None, environ=os.environ).replace(namespace=namespace, work=work)
    # All that is outdated, and no bound on a run: what merging leads to in the end.
    settings = dataclasses.replace(settings, build=dataclasses.replace(settings.build, outdated="now"), plan=Planning())
    means = Means(
        config=settings,
        workspace=Workspace(root=work),
        hub=client.connect(settings.hub.endpoint, None),
        display=Silent(),
    )
    cycle = look((), catalogue.select(settings.build.variants), means, keep=False, on=_ON)
    due = [_name(job.release, v) for job in cycle.todo.jobs for v in job.variants]
    jobs = []
    for job in cycle.todo.jobs:
        left = tuple(v for v in job.variants if _name(job.release, v) not in known)
        if left:
            jobs.append(dataclasses.replace(job, variants=left, placement=None))
    todo = settle(
        dataclasses.replace(cycle.todo, jobs=tuple(jobs), postponed=()),
        on=_ON,
        exact=False,
        config=settings,
        hub=means.hub,
        display=means.display,
    )
    rows = []
    for job in todo.jobs:
        assert job.placement is not None  # noqa: S101 - settle gave it
        rows.append(
            {
                "release": job.release.label,
                "format": job.format,
                "variants": [v.variant.name for v in job.variants],
                "reason": job.variants[0].reason,
                "runner": job.placement.runner,
                "seconds": job.placement.seconds,
                "cost": job.placement.cost,
            }
        )
    return {"models": [s.repo_id for s in cycle.watched.sightings], "due": due, "jobs": rows}


def _name(release: Release, planned: PlannedVariant) -> str:
    """Return what says that a variant of a release is due, by whatever recipe."""
    return f"{release.content_digest} {planned.variant.name}"


if __name__ == "__main__":
    main()
