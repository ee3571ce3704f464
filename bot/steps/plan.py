"""Plan: what is to be built from which release. Compares build keys with what is published; converts nothing."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from bot import toolchains
from bot.errors import ForeignRepoError, RecordError, UnsupportedArchitectureError
from bot.formats import Format, all_formats
from bot.hub.client import Hub
from bot.machine import lacks
from bot.records import Estimate, Failure, Job, Plan, PlannedVariant, Release, Variant, build_key
from bot.steps.failures import failure


def plan(releases: Sequence[Release], variants: Sequence[Variant], *, namespace: str | None, hub: Hub) -> Plan:
    """Return the jobs that bring every release's publications up to date.

    Without a namespace nothing can be published, so nothing counts as done. What a toolchain refuses, and what would
    go into a repo that is not ours, becomes a Failure, and holds up nothing else.
    """
    jobs: list[Job] = []
    done: list[PlannedVariant] = []
    failures: list[Failure] = []
    published: dict[str, frozenset[str]] = {}
    for release in releases:
        for name, rows in groupby(variants, key=lambda v: v.format):
            form = all_formats()[name]
            todo: list[PlannedVariant] = []
            for variant in rows:
                reason = form.refusal(release.config, variant) or lacks(variant.target)
                if reason is not None:
                    failures.append(_refusal(release, variant, reason))
                    continue
                planned = _planned(release, variant, form, namespace)
                try:
                    keys = _keys(planned.repo_id, hub, published) if namespace else frozenset()
                except (ForeignRepoError, RecordError) as error:
                    failures.append(failure(release.label, variant.name, "plan", error))
                    continue
                (done if planned.build_key in keys else todo).append(planned)
            if todo:
                jobs.append(_job(release, form, todo))
    return Plan(jobs=tuple(jobs), done=tuple(done), failures=tuple(failures))


def require_work(todo: Plan) -> None:
    """Raise UnsupportedArchitectureError, in one line, where everything that was asked for is refused."""
    refused = [f for f in todo.failures if is_refusal(f)]
    if refused and len(refused) == len(todo.failures) and not todo.jobs and not todo.done:
        raise UnsupportedArchitectureError(
            f"{refused[0].release}: none of the variants can be built: {refused[0].message}",
            hint="`phi-bot variants` lists what each format supports.",
        )


def is_refusal(failure: Failure) -> bool:
    """Say whether a toolchain, or this machine, cannot do it: no fault of anybody's."""
    return failure.exit_code == UnsupportedArchitectureError.exit_code


def _refusal(release: Release, variant: Variant, reason: str) -> Failure:
    error = UnsupportedArchitectureError(reason, hint="Choose other variants, or a machine that has what is missing.")
    return failure(release.label, variant.name, "plan", error)


def _planned(release: Release, variant: Variant, form: Format, namespace: str | None) -> PlannedVariant:
    key = build_key(
        content_digest=release.content_digest,
        variant=variant,
        toolchain_digest=toolchains.lock_digest(form.name),
        format_version=form.version,
    )
    return PlannedVariant(
        variant=variant,
        build_key=key,
        repo_id=f"{namespace or 'local'}/{release.name}{form.repo_suffix(variant)}",
        path_in_repo=form.path_in_repo(variant),
    )


def _keys(repo_id: str, hub: Hub, published: dict[str, frozenset[str]]) -> frozenset[str]:
    """Return the build keys that a repo's record holds; one request a repo."""
    if repo_id not in published:
        found = hub.record(repo_id)
        published[repo_id] = frozenset(b.build.build_key for b in found[0].builds) if found else frozenset()
    return published[repo_id]


def _job(release: Release, form: Format, todo: list[PlannedVariant]) -> Job:
    return Job(
        release=release,
        format=form.name,
        variants=tuple(todo),
        toolchain_digest=toolchains.lock_digest(form.name),
        estimate=total(form.estimate(release, p.variant) for p in todo),
    )


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Add up what variants of one job need: outputs pile up, scratch and memory are used by one at a time."""
    found = list(estimates)
    return Estimate(
        output=sum(e.output for e in found),
        disk=max((e.disk for e in found), default=0),
        memory=max((e.memory for e in found), default=0),
    )
