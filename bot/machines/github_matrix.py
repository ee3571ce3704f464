"""The matrix of a GitHub workflow: which jobs of a plan run together on which machine."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.machines.batches import batches
from bot.machines.placing import demand, placement
from bot.machines.runners import LOCAL, Runner
from bot.records.plans import Job, Plan

MOST = 255  #: of entries: GitHub takes no more than 256 jobs of a matrix
_LONGEST = 360  # minutes that GitHub lets a job run
_SHORTEST = 30  # minutes that any job gets
_REMOTE, _ATTENDANT = "hf-jobs", "ubuntu-24.04"
_TIMES = 3.0  # the time limit is so many times the estimate

# A repo's id and a variant's name go through YAML, JSON and a shell. What is not plain is not written at all.
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIANT = re.compile(r"[a-z0-9]+/[a-z0-9][a-z0-9._-]*(?::[0-9.]+[A-Za-z]+)?")


@dataclass(frozen=True, kw_only=True)
class WorkflowMatrix:
    """Entries of ``strategy.matrix.include``, all of whose values are strings, and in words what is left out.

    ``jobs`` are what the entries do.
    """

    entries: tuple[dict[str, str], ...]
    jobs: tuple[Job, ...]
    left_out: tuple[str, ...]


def matrix(todo: Plan, *, runners: Sequence[Runner]) -> WorkflowMatrix:
    """Return the matrix that runs a placed plan.

    ``on`` of an entry is what `phi-bot run --on` takes there: jobs on Hugging Face Jobs are started and followed from a
    small runner.

    Jobs of one release on the same runner are one entry, as long as they fit on its disk, so that one download serves
    them all. Jobs on runners that no workflow can ask for, releases without a commit, and entries beyond the number
    that GitHub takes are left out.
    """
    by_name = {r.name: r for r in runners}
    fit: list[Job] = []
    left_out: list[str] = []
    for job in todo.jobs:
        runner = by_name.get(job.placement.runner) if job.placement is not None else None
        if (reason := _unfit(job, runner)) is not None or runner is None:
            left_out.append(f"{job.format} of {job.release.label}: {reason}")
        else:
            fit.append(job)
    found = [(by_name[name], batch) for name, batch in batches(fit, {r.name: r.disk for r in runners})]
    left_out += [
        f"{', '.join(_names(batch))} of {batch[0].release.label}: a matrix has {MOST} entries at most"
        for _, batch in found[MOST:]
    ]
    return WorkflowMatrix(
        entries=tuple(_entry(r, batch) for r, batch in found[:MOST]),
        jobs=tuple(job for _, batch in found[:MOST] for job in batch),
        left_out=tuple(left_out),
    )


def _unfit(job: Job, runner: Runner | None) -> str | None:
    if runner is None:
        return "it has no runner"
    if not runner.labels and runner.kind != _REMOTE:
        return f"no workflow can ask for {runner.name}"
    if job.release.commit is None or not _REPO.fullmatch(job.release.repo_id):
        return "it is not a release on a Hub"
    if odd := [name for name in _names([job]) if not _VARIANT.fullmatch(name)]:
        return f"{odd[0]!a} is not the name of a variant"
    return None


def _entry(runner: Runner, batch: Sequence[Job]) -> dict[str, str]:
    release = batch[0].release
    seconds = sum(placement(demand(job), runner).seconds for job in batch)
    minutes = min(max(_SHORTEST, math.ceil(_TIMES * seconds / 60)), _LONGEST)
    formats = ", ".join(dict.fromkeys(job.format for job in batch))
    return {
        "name": f"{release.name} ({formats})",
        "runs_on": json.dumps(list(runner.labels) or [_ATTENDANT]),
        "on": runner.name if runner.kind == _REMOTE else LOCAL,
        "release": f"{release.repo_id}@{release.commit}",
        "variants": ",".join(_names(batch)),
        "timeout_minutes": str(minutes),
    }


def _names(batch: Sequence[Job]) -> list[str]:
    return [v.variant.name for job in batch for v in job.variants]
