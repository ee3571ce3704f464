"""Plan: what is to be built from which release. Compares build keys with what is published; converts nothing.

A release is read, beyond what was sighted of it, only where something of it is to be built.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from bot import catalogue, toolchains
from bot.catalogue import naming
from bot.errors import (
    HubUnreachableError,
    PhiBotError,
    UnsupportedArchitectureError,
)
from bot.formats import recipes
from bot.formats.needs import missing_to_prove
from bot.formats.registry import Format, all_formats
from bot.hub.namespace import Namespace
from bot.machines.estimate import estimate
from bot.publishing.due import NOTHING, Due, PlanInputs, due_work, planned_variant, refusal
from bot.records.artifacts import Failure, Release, Variant
from bot.records.failures import failure, is_refusal
from bot.records.plans import DuePlan, Job, Plan, PlannedVariant, Postponed, SourceState
from bot.source.shape import guessed_shape
from bot.state.memory import ToolchainRefusal
from bot.steps.watch import Reader

__all__ = [
    "NOTHING",
    "PlanInputs",
    "current_keys",
    "is_refusal",
    "plan",
    "plan_releases",
    "require_work",
    "without_known",
]

_DECLARED = ("bfloat16", "float16", "float32")  # the types of weights whose bytes tell how many there are


def plan(
    sightings: Sequence[SourceState], variants: Sequence[Variant], *, reader: Reader, known: PlanInputs
) -> tuple[Plan, dict[str, ToolchainRefusal]]:
    """Return the jobs that bring every release's publications up to date, and the refusals to remember by build key.

    Without a namespace nothing can be published, so nothing counts as done. A variant that a toolchain refuses, or that
    would go into a repo that is not ours or another model's, becomes a Failure, and holds up nothing else. Releases
    whose outdated publications the policy postpones are not read either.
    """
    found = due_work(sightings, variants, current=reader.current, known=known)
    todo = Plan(jobs=(), done=tuple(found.done), failures=tuple(found.failures), postponed=tuple(found.postponed))
    refusals: dict[str, ToolchainRefusal] = {}
    later: list[Due] = []
    for one in found.due:
        if known.outdated == "now":
            now = one
        else:
            now, old = _apart(one)
            later += [old] if old.planned else []
        if now.planned:
            more, refused = _jobs_of(now, reader, known)
            todo, refusals = _both(todo, more), refusals | refused
    if not todo.jobs and known.outdated == "slowly":
        for old in sorted(later, key=lambda one: _changed(one, known.there)):
            more, refused = _jobs_of(old, reader, known)
            todo, refusals = _both(todo, more), refusals | refused
            later.remove(old)
            if more.jobs:
                break
    postponed = tuple(_postponed(one.sighting.label, v, known.outdated) for one in later for v in one.planned)
    return replace(todo, postponed=(*todo.postponed, *postponed)), refusals


def without_known(todo: Plan, known: DuePlan) -> Plan:
    """Return what a plan has to build that another one does not have, as jobs that have no runner yet."""
    due_there = known.due
    left = (
        replace(
            job,
            variants=tuple(v for v in job.variants if (job.release.content_digest, v.variant.name) not in due_there),
            placement=None,
        )
        for job in todo.jobs
    )
    return replace(todo, jobs=tuple(job for job in left if job.variants), postponed=())


def plan_releases(releases: Sequence[Release], variants: Sequence[Variant]) -> Plan:
    """Return the jobs that build variants of releases, whatever is published."""
    todo = Plan(jobs=(), done=(), failures=())
    for release in releases:
        planned = [planned_variant(release.repo_id, release.content_digest, v, None) for v in variants]
        jobs, failures, _ = _jobs(release, planned, here=True)
        todo = _both(todo, Plan(jobs=tuple(jobs), done=(), failures=tuple(failures)))
    return todo


def current_keys(sightings: Iterable[SourceState], asked: Iterable[Variant] = ()) -> frozenset[str]:
    """Return the build keys of all that could be made of these sources now; what has another one is of the past.

    Of the variants with a size, of which there is no end, those that were ``asked`` for count.
    """
    rows = catalogue.all_variants().values()
    variants = [recipe for row in (*rows, *asked) for recipe in recipes.possible(row)]
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


def _apart(one: Due) -> tuple[Due, Due]:
    """Return a source's variants that are due in any case, and those that an older toolchain or recipe made."""
    return (
        replace(one, planned=tuple(v for v in one.planned if v.reason != "outdated")),
        replace(one, planned=tuple(v for v in one.planned if v.reason == "outdated")),
    )


def _changed(one: Due, there: Namespace) -> str:
    """Return when the oldest of the publications that are due was made."""
    shelves = (there.shelf(v.repo_id) for v in one.planned)
    return min(s.changed for s in shelves if s is not None)


def _postponed(label: str, planned: PlannedVariant, policy: str) -> Postponed:
    text = f'an older toolchain or recipe made it; build.outdated is "{policy}"'
    return Postponed(release=label, planned=planned, why="outdated", text=text)


def _jobs_of(one: Due, reader: Reader, known: PlanInputs) -> tuple[Plan, dict[str, ToolchainRefusal]]:
    """Read a release with variants that are due, and return its jobs. A variant that cannot be built is a Failure."""
    label, todo, failures = one.sighting.label, [], []
    for planned in one.planned:
        try:
            _check_record(planned, label, reader, known)
        except HubUnreachableError:
            raise  # the others would fail alike
        except PhiBotError as error:
            failures.append(failure(label, planned.variant.name, "plan", error))
        else:
            todo.append(planned)
    jobs: list[Job] = []
    refusals: dict[str, ToolchainRefusal] = {}
    if todo:
        try:
            jobs, more, refusals = _jobs(reader.release(one.sighting), todo, here=known.here)
        except PhiBotError as error:
            if isinstance(error, HubUnreachableError):
                raise  # the others would fail alike
            more = [failure(label, v.variant.name, "plan", error) for v in todo]
        failures += more
    return Plan(jobs=tuple(jobs), done=(), failures=tuple(failures)), refusals


def _check_record(planned: PlannedVariant, label: str, reader: Reader, known: PlanInputs) -> None:
    """Raise OtherSourceError where anything that a repo holds was made from another source.

    A card speaks of the newest source alone. The step looks before hours of building end in a refusal.
    """
    shelf = known.there.shelf(planned.repo_id)
    if shelf is not None and shelf.builds:
        naming.check_label(planned.repo_id, reader.sources_in(planned.repo_id), label, reader.current)


def _jobs(
    release: Release, todo: Sequence[PlannedVariant], *, here: bool
) -> tuple[list[Job], list[Failure], dict[str, ToolchainRefusal]]:
    """Return a job for each format, what cannot be built, and which of that a toolchain refuses, by build key."""
    jobs: list[Job] = []
    failures: list[Failure] = []
    refusals: dict[str, ToolchainRefusal] = {}
    for name, group in groupby(todo, key=lambda v: v.variant.format):
        form = all_formats()[name]
        able = []
        for planned in group:
            refused = _wrong_size(planned.variant, release)
            refused = refused or form.refusal(release.config, planned.variant)
            if refused is not None:
                refusals[planned.build_key] = ToolchainRefusal(repo_id=release.repo_id, reason=refused)
            reason = refused or (missing_to_prove(planned.variant) if here else None)
            if reason is not None:
                failures.append(refusal(release.label, planned.variant, reason))
            else:
                able.append(replace(planned, variant=catalogue.decided(planned.variant, release.parameters)))
        if able:
            jobs.append(_job(release, form, able))
    return jobs, failures, refusals


def _wrong_size(variant: Variant, release: Release) -> str | None:
    """Say why a release cannot have a variant of such a size, None where it may: its weights must be countable."""
    if variant.size_limit is not None and release.declared_type not in _DECLARED:
        said = f"names {release.declared_type!r} as" if release.declared_type else "does not name"
        return (
            f"config.json {said} torch_dtype, so it is not known how many weights the model has, and what a size means "
            f"of it: name the type of its weights there, {', '.join(_DECLARED[:-1])} or {_DECLARED[-1]}"
        )
    return catalogue.objection(variant, release.parameters)


def _both(one: Plan, other: Plan) -> Plan:
    return Plan(
        jobs=one.jobs + other.jobs,
        done=one.done + other.done,
        failures=one.failures + other.failures,
        postponed=one.postponed + other.postponed,
    )


def _job(release: Release, form: Format, todo: Sequence[PlannedVariant]) -> Job:
    return Job(
        release=release,
        format=form.name,
        variants=tuple(todo),
        toolchain_digest=toolchains.lock_digest(form.name),
        estimate=estimate(guessed_shape(release), [p.variant for p in todo], release.config),
    )
