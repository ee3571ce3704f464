"""Prove: build and verify, job by job. What fails holds up nothing else, unless the model itself is at fault."""

from collections.abc import Callable, Sequence

from bot.errors import PhiBotError, SourceError
from bot.plans import Job
from bot.records import Artifact, Failure, Report
from bot.steps.build import build
from bot.steps.failures import failure
from bot.steps.means import Means
from bot.steps.place import BYTES_A_SECOND
from bot.steps.verify import verify


def prove_all(jobs: Sequence[Job], means: Means, on_proven: Callable[[Artifact], None] = lambda _: None) -> Report:
    """Build and verify jobs of one release. Where the model itself is at fault, the jobs behind are not tried.

    ``on_proven`` is called with each artifact as soon as it is.
    """
    artifacts: list[Artifact] = []
    failures: list[Failure] = []
    for number, job in enumerate(jobs := in_order(jobs)):
        try:
            proven, failed = _prove(job, means, on_proven)
        except SourceError as error:  # the other formats would fail on the same file
            left = [v.variant.name for j in jobs[number:] for v in j.variants]
            failures += [failure(job.release.label, name, "build", error) for name in left]
            break
        artifacts += proven
        failures += failed
    return Report(artifacts=tuple(artifacts), failures=tuple(failures))


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs so that uploading what is proven fits best beside proving the rest.

    First those that are sooner proven than uploaded, the quickest first; then the others, the longest upload first
    (S. M. Johnson, Optimal two- and three-stage production schedules with setup times included, 1954).
    """

    def place(job: Job) -> tuple[bool, float]:
        proving = job.placement.seconds if job.placement is not None else 0.0
        uploading = job.estimate.output / BYTES_A_SECOND
        return (True, -uploading) if proving >= uploading else (False, proving)

    return sorted(jobs, key=place)


def together(one: Report, other: Report) -> Report:
    """Return what two reports say."""
    return Report(
        artifacts=one.artifacts + other.artifacts,
        staged=one.staged + other.staged,
        proposals=one.proposals + other.proposals,
        publications=one.publications + other.publications,
        failures=one.failures + other.failures,
    )


def _prove(job: Job, means: Means, on_proven: Callable[[Artifact], None]) -> tuple[list[Artifact], list[Failure]]:
    """Build and verify one job. Raises SourceError where the model itself is at fault."""
    threads = means.config.build.threads
    try:
        built = build(job, workspace=means.workspace, hub=means.hub, threads=threads, display=means.display)
    except SourceError:
        raise
    except PhiBotError as error:
        return [], [failure(job.release.label, v.variant.name, "build", error) for v in job.variants]
    proven = verify_all(built.artifacts, means, on_proven)
    return list(proven.artifacts), [*built.failures, *proven.failures]


def verify_all(
    artifacts: Sequence[Artifact], means: Means, on_proven: Callable[[Artifact], None] = lambda _: None
) -> Report:
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
        else:
            on_proven(proven[-1])
    return Report(artifacts=tuple(proven), failures=tuple(failures))
