"""The builds that merging would cause in a namespace, and their cost: the bot's own planning, on both sides.

Each side is asked by its command line: ``phi-bot watch``, and ``phi-bot plan`` for what that printed.
"""

import json
from dataclasses import dataclass

from bot.reconvert import child, foreign
from bot.reconvert.child import ChildError, Code
from bot.reconvert.records import Rebuild, Rebuilds
from bot.records.artifacts import label_of
from bot.records.base import Record
from bot.records.plans import DuePlan
from bot.system import temporary

_SECONDS = 900.0
_REASON = 500  # characters
_EMPTY = DuePlan(jobs=())


@dataclass(frozen=True, kw_only=True)
class _Seen(Record):
    repo_id: str


@dataclass(frozen=True, kw_only=True)
class _Watched(Record):
    """The needed part of the output of ``phi-bot watch``."""

    sightings: tuple[_Seen, ...]


def rebuilds(base: Code, head: Code, namespace: str) -> Rebuilds:
    """Return what the head would build in a namespace and the base would not, with estimates and runners.

    Builds that are due in any case, as those of yesterday's release, do not count. ``problem`` says so where the Hub
    cannot be read or a side cannot plan.
    """
    try:
        before, due = _plan(base, namespace, _EMPTY)
        after, jobs = _plan(head, namespace, due)
        return Rebuilds(
            namespace=namespace,
            jobs=_jobs(jobs),
            watched=tuple(sorted(set(after) - set(before))),
            unwatched=tuple(sorted(set(before) - set(after))),
        )
    except ChildError as error:
        return Rebuilds(namespace=namespace, problem=str(error)[:_REASON])


def _plan(code: Code, namespace: str, without: DuePlan) -> tuple[list[str], DuePlan]:
    """Return the models that a side watches, and what it would build of them that ``without`` does not have."""
    with temporary.folder("plan-") as folder:
        common = ["--namespace", namespace, "--work", str(folder), "--json", "--quiet"]
        seen, known = folder / "releases.json", folder / "known.json"
        seen.write_text(_said(code, ["watch", *common]), encoding="utf-8")
        known.write_text(json.dumps(without.to_json()), encoding="utf-8")
        where = ["--on", "github", "--on", "own"]  # where workflows run
        options = ["--releases", str(seen), "--without", str(known), "--unbounded", *where]
        watched = foreign.read_file(_Watched, seen)
        planned = foreign.read(DuePlan, _said(code, ["plan", *options, *common]))
    return [s.repo_id for s in watched.sightings], planned


def _said(code: Code, arguments: list[str]) -> str:
    done = child.run(code, ["-m", "bot.cli", *arguments], seconds=_SECONDS, network=True)
    if not done.stdout.strip():  # a plan with jobs that cannot be built is still a plan
        raise ChildError(child.failure_line(done))
    return done.stdout


def _jobs(plan: DuePlan) -> tuple[Rebuild, ...]:
    return tuple(
        Rebuild(
            release=label_of(job.release.repo_id, job.release.commit),
            format=job.format,
            variants=tuple(v.variant.name for v in job.variants),
            reason=job.variants[0].reason,
            runner=job.placement.runner,
            seconds=job.placement.seconds,
            cost=job.placement.cost,
        )
        for job in plan.jobs
        if job.placement is not None and job.variants
    )
