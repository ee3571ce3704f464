"""Plan: what is to be built from which release. Compares build keys with what is published; converts nothing.

A release is read, beyond what was sighted of it, only where something of it is to be built.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import bot
from bot import catalogue, recipes, toolchains
from bot.errors import ForeignRepoError, PhiBotError, SourceError, UnsupportedArchitectureError
from bot.estimates import estimate
from bot.formats import Format, all_formats
from bot.hub.namespace import Namespace
from bot.machine import lacks
from bot.memory import Memory, Refused
from bot.plans import Job, Plan, PlannedVariant, Postponed, Sighting
from bot.records import Failure, Release, Variant
from bot.source.shape import guessed_shape
from bot.staging import folder_name
from bot.steps.failures import failure
from bot.steps.watch import Reader

NOTHING = Namespace(shelved={}, foreign=frozenset())


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a plan is made from, beside releases and variants.

    ``namespace`` is where it will be published, None where nothing is; ``there`` what that holds, ``staged`` the
    folders of its staging repo. ``outdated`` is the policy for publications of an older toolchain or recipe: ``now``,
    ``slowly`` or ``never``. ``here`` says whether the machine at hand does the work, and so has to have what that
    needs.
    """

    namespace: str | None = None
    there: Namespace = NOTHING
    staged: frozenset[str] = frozenset()
    memory: Memory = field(default_factory=Memory)
    outdated: str = "now"
    here: bool = True
    now: dt.datetime


def plan(
    sightings: Sequence[Sighting], variants: Sequence[Variant], *, reader: Reader, known: Known
) -> tuple[Plan, dict[str, Refused]]:
    """Return the jobs that bring every release's publications up to date, and the refusals to remember by build key.

    Without a namespace nothing can be published, so nothing counts as done. What a toolchain refuses, and what would
    go into a repo that is not ours, becomes a Failure, and holds up nothing else.
    """
    todo = Plan(jobs=(), done=(), failures=())
    refusals: dict[str, Refused] = {}
    for sighting in sightings:
        if sighting.content_digest is not None:
            one, refused = _plan_one(sighting, sighting.content_digest, variants, reader, known)
            todo, refusals = _both(todo, one), refusals | refused
    return _outdated(todo, known), refusals


def plan_releases(releases: Sequence[Release], variants: Sequence[Variant]) -> Plan:
    """Return the jobs that build variants of releases, whatever is published."""
    todo = Plan(jobs=(), done=(), failures=())
    for release in releases:
        planned = [_planned(release.repo_id, release.content_digest, v, None) for v in variants]
        jobs, failures, _ = _jobs(release, planned, here=True)
        todo = _both(todo, Plan(jobs=tuple(jobs), done=(), failures=tuple(failures)))
    return todo


def current_keys(sightings: Iterable[Sighting]) -> frozenset[str]:
    """Return the build keys of all that could be made of these sources now; what has another one is of the past."""
    rows = catalogue.all_variants().values()
    variants = [*rows, *(tried for row in rows if (tried := recipes.tried(row)) != row)]
    return frozenset(
        recipes.key_of(s.content_digest, v) for s in sightings if s.content_digest is not None for v in variants
    )


def require_work(todo: Plan) -> None:
    """Raise UnsupportedArchitectureError, in one line, where everything that was asked for is refused."""
    refused = [f for f in todo.failures if is_refusal(f)]
    if refused and len(refused) == len(todo.failures) and not todo.jobs and not todo.done and not todo.postponed:
        raise UnsupportedArchitectureError(
            f"{refused[0].release}: none of the variants can be built: {refused[0].message}",
            hint="`phi-bot variants` lists what each format supports.",
        )


def is_refusal(failure: Failure) -> bool:
    """Say whether a toolchain, or this machine, cannot do it: no fault of anybody's."""
    return failure.exit_code == UnsupportedArchitectureError.exit_code


def _plan_one(
    sighting: Sighting, content_digest: str, variants: Sequence[Variant], reader: Reader, known: Known
) -> tuple[Plan, dict[str, Refused]]:
    """Plan one release. It is read only if something of it is to be built."""
    done: list[PlannedVariant] = []
    postponed: list[Postponed] = []
    failures: list[Failure] = []
    todo: list[PlannedVariant] = []
    for variant in variants:
        planned = _planned(sighting.repo_id, content_digest, variant, known.namespace)
        foreign = planned.repo_id in known.there.foreign
        reason = None if foreign else _reason(planned, content_digest, known)
        if foreign:
            failures.append(failure(sighting.label, variant.name, "plan", _foreign(planned.repo_id)))
        elif reason is None:
            done.append(planned)
        elif refused := known.memory.refusal(planned.build_key, bot_version=bot.__version__):
            failures.append(_refusal(sighting.label, variant, refused))
        elif folder_name(planned.build_key, sighting.repo_id, sighting.commit) in known.staged:
            text = "it is staged, and waits for `phi-bot promote`"
            postponed.append(Postponed(release=sighting.label, planned=planned, why="staged", text=text))
        elif waits := known.memory.waits(planned.build_key, known.now):
            postponed.append(Postponed(release=sighting.label, planned=planned, why="failed", text=waits))
        else:
            todo.append(replace(planned, reason=reason))
    jobs: list[Job] = []
    refusals: dict[str, Refused] = {}
    if todo:
        try:
            jobs, more, refusals = _jobs(reader.release(sighting), todo, here=known.here)
        except PhiBotError as error:
            if not isinstance(error, SourceError) and sighting.folder is None:
                raise  # the Hub's fault is not this release's
            more = [failure(sighting.label, v.variant.name, "plan", error) for v in todo]
        failures += more
    found = Plan(jobs=tuple(jobs), done=tuple(done), failures=tuple(failures), postponed=tuple(postponed))
    return found, refusals


def _jobs(
    release: Release, todo: Sequence[PlannedVariant], *, here: bool
) -> tuple[list[Job], list[Failure], dict[str, Refused]]:
    """Return a job for each format, what cannot be built, and which of that a toolchain refuses, by build key."""
    jobs: list[Job] = []
    failures: list[Failure] = []
    refusals: dict[str, Refused] = {}
    for name, group in groupby(todo, key=lambda v: v.variant.format):
        form = all_formats()[name]
        able = []
        for planned in group:
            refused = form.refusal(release.config, planned.variant)
            if refused is not None:
                refusals[planned.build_key] = Refused(repo_id=release.repo_id, reason=refused)
            reason = refused or (lacks(planned.variant.target) if here else None)
            if reason is not None:
                failures.append(_refusal(release.label, planned.variant, reason))
            else:
                able.append(planned)
        if able:
            jobs.append(_job(release, form, able))
    return jobs, failures, refusals


def _reason(planned: PlannedVariant, content_digest: str, known: Known) -> Literal["new", "changed", "outdated"] | None:
    """Say why a variant is to be built, None where it is published as it should be."""
    there = known.there.shelved.get(planned.repo_id)
    if known.namespace is None or there is None or planned.variant.name not in there.builds:
        return "new"
    if there.builds[planned.variant.name] == planned.build_key:
        return None
    return "outdated" if there.contents[planned.variant.name] == content_digest else "changed"


def _outdated(todo: Plan, known: Known) -> Plan:
    """Postpone what the policy says of publications that an older toolchain or recipe made."""
    if known.outdated == "now":
        return todo
    other = any(v.reason != "outdated" for job in todo.jobs for v in job.variants)
    chosen = None if other or known.outdated == "never" else _oldest(todo.jobs, known.there)
    jobs, postponed = [], list(todo.postponed)
    for job in todo.jobs:
        kept = tuple(v for v in job.variants if v.reason != "outdated" or job.release.repo_id == chosen)
        postponed += [
            Postponed(
                release=job.release.label,
                planned=v,
                why="outdated",
                text=f'an older toolchain or recipe made it; build.outdated is "{known.outdated}"',
            )
            for v in job.variants
            if v not in kept
        ]
        if kept:
            jobs.append(job if kept == job.variants else _job(job.release, all_formats()[job.format], kept))
    return replace(todo, jobs=tuple(jobs), postponed=tuple(postponed))


def _oldest(jobs: Sequence[Job], there: Namespace) -> str | None:
    """Return the model of which a publication is the oldest."""

    def changed(job: Job) -> str:
        return min(there.shelved[v.repo_id].changed for v in job.variants)

    return min(jobs, key=changed).release.repo_id if jobs else None


def _both(one: Plan, other: Plan) -> Plan:
    return Plan(
        jobs=one.jobs + other.jobs,
        done=one.done + other.done,
        failures=one.failures + other.failures,
        postponed=one.postponed + other.postponed,
    )


def _foreign(repo_id: str) -> ForeignRepoError:
    return ForeignRepoError(
        f"{repo_id} holds files that phi-bot did not put there",
        hint=f"Nothing in it is changed. Publish in another namespace, or rename {repo_id}.",
    )


def _refusal(label: str, variant: Variant, reason: str) -> Failure:
    error = UnsupportedArchitectureError(reason, hint="Choose other variants, or a machine that has what is missing.")
    return failure(label, variant.name, "plan", error)


def _planned(source: str, content_digest: str, variant: Variant, namespace: str | None) -> PlannedVariant:
    form = all_formats()[variant.format]
    return PlannedVariant(
        variant=variant,
        build_key=recipes.key_of(content_digest, variant),
        repo_id=f"{namespace or 'local'}/{source.rsplit('/', 1)[-1]}{form.repo_suffix(variant)}",
        path_in_repo=form.path_in_repo(variant),
    )


def _job(release: Release, form: Format, todo: Sequence[PlannedVariant]) -> Job:
    return Job(
        release=release,
        format=form.name,
        variants=tuple(todo),
        toolchain_digest=toolchains.lock_digest(form.name),
        estimate=estimate(guessed_shape(release), [p.variant for p in todo]),
    )
