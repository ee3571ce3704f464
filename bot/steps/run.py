"""Run: the whole way of a release, in one process."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bot.config import Config
from bot.errors import PhiBotError, SourceError
from bot.hub.client import Hub
from bot.progress import Display
from bot.records import Artifact, Failure, Job, Plan, Report, Variant
from bot.steps.build import build
from bot.steps.failures import failure
from bot.steps.plan import is_refusal, plan, require_work
from bot.steps.publish import publish
from bot.steps.verify import verify
from bot.steps.watch import watch
from bot.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a run works with."""

    config: Config
    workspace: Workspace
    hub: Hub
    display: Display


def run(
    models: Sequence[str], variants: Sequence[Variant], *, named: frozenset[str], means: Means
) -> tuple[Plan, Report]:
    """Bring the publications of the releases up to date. Return what was planned and what came of it.

    A job that fails does not hold up the others. Without a namespace nothing is published, and the proven artifacts are
    in the working folder. A variant that a toolchain refuses is a failure only if it is in
    ``named``: asked for by its own name, not as one of a set. Raises TokenError before anything is built where the
    token is missing or wrong, and UnsupportedArchitectureError where models are named and nothing of them can be built.
    """
    releases = watch(models, config=means.config, hub=means.hub, display=means.display)
    for release in releases:
        means.display.say(f"Found {release.label}")
    todo = plan(releases, variants, namespace=means.config.publish.namespace, hub=means.hub)
    if models:
        require_work(todo)
    if todo.jobs and means.config.publish.namespace:
        means.hub.whoami()  # a token that is missing or wrong is better said now than after hours of building
    for refused in todo.failures:
        means.display.say(f"Left out {refused.variant} of {refused.release}: {refused.message}")
    for there in todo.done:
        means.display.say(f"{there.variant.name} is in {there.repo_id} already: nothing to do")

    done = Report(failures=tuple(f for f in todo.failures if f.variant in named or not is_refusal(f)))
    for _, jobs in groupby(todo.jobs, key=lambda job: job.release.label):
        done = together(done, _release(tuple(jobs), means))
    return todo, done


def _release(jobs: Sequence[Job], means: Means) -> Report:
    """Build, verify and publish what one release asks for. It is published when all of it is known.

    So each repo takes one commit, and its pictures show every format.
    """
    report = prove_all(jobs, means)
    if not report.artifacts or not means.config.publish.namespace:
        return report
    published = publish(
        report.artifacts,
        namespace=means.config.publish.namespace,
        private=means.config.publish.private,
        hub=means.hub,
        display=means.display,
    )
    return together(report, published)


def prove_all(jobs: Sequence[Job], means: Means) -> Report:
    """Build and verify jobs of one release. Where the model itself is at fault, the jobs behind are not tried."""
    artifacts: list[Artifact] = []
    failures: list[Failure] = []
    for number, job in enumerate(jobs):
        try:
            proven, failed = _prove(job, means)
        except SourceError as error:  # the other formats would fail on the same file
            left = [v.variant.name for j in jobs[number:] for v in j.variants]
            failures += [failure(job.release.label, name, "build", error) for name in left]
            break
        artifacts += proven
        failures += failed
    return Report(artifacts=tuple(artifacts), failures=tuple(failures))


def together(one: Report, other: Report) -> Report:
    """Return what two reports say."""
    return Report(
        artifacts=one.artifacts + other.artifacts,
        publications=one.publications + other.publications,
        failures=one.failures + other.failures,
    )


def _prove(job: Job, means: Means) -> tuple[list[Artifact], list[Failure]]:
    """Build and verify one job. Raises SourceError where the model itself is at fault."""
    threads = means.config.build.threads
    try:
        built = build(job, workspace=means.workspace, hub=means.hub, threads=threads, display=means.display)
    except SourceError:
        raise
    except PhiBotError as error:
        return [], [failure(job.release.label, v.variant.name, "build", error) for v in job.variants]
    proven = verify_all(built.artifacts, means)
    return list(proven.artifacts), [*built.failures, *proven.failures]


def verify_all(artifacts: Sequence[Artifact], means: Means) -> Report:
    """Verify artifacts; one that fails holds up no other. Raises SourceError where the model itself is at fault."""
    proven: list[Artifact] = []
    failures: list[Failure] = []
    for artifact in artifacts:
        try:
            proven.append(
                verify(
                    artifact,
                    config=means.config,
                    workspace=means.workspace,
                    hub=means.hub,
                    threads=means.config.build.threads,
                    display=means.display,
                )
            )
        except SourceError:
            raise
        except PhiBotError as error:
            build_record = artifact.build
            failures.append(failure(build_record.source.label, build_record.variant.name, "verify", error))
    return Report(artifacts=tuple(proven), failures=tuple(failures))
