"""Prove: build and verify, job by job. What fails holds up nothing else, unless the model itself is at fault."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from bot.context import Context
from bot.errors import PhiBotError, SourceError
from bot.machines.placing import BYTES_A_SECOND
from bot.proving.build_job import build_job, partial_report
from bot.proving.build_together import Built, build_together, found_for
from bot.proving.job_disk import streaming
from bot.proving.verify_artifact import Verifying
from bot.records.artifacts import Artifact, Failure, Report
from bot.records.failures import CutShortError, cut_short, failure, interruption, merge_reports
from bot.records.plans import Job


def prove_all(
    jobs: Sequence[Job],
    context: Context,
    on_proven: Callable[[Artifact], None] = lambda _: None,
    faults: dict[str, SourceError] | None = None,
) -> Report:
    """Build and verify jobs of one release. Where the model itself is at fault, the jobs behind are not tried.

    ``on_proven`` is called with each artifact as soon as it is. Of a release that streams all jobs are built before the
    first artifact is verified: so it is read least often. ``faults`` has the errors of models that are at fault, by the
    release's label, for releases that come in several turns: of a model there nothing is tried, and another one at
    fault is added. Raises CutShortError on Ctrl-C.
    """
    faults = {} if faults is None else faults
    label = jobs[0].release.label
    if label in faults:
        return _not_tried(jobs, faults[label])
    done = Report()
    jobs = in_order(jobs)
    streamed = streaming(jobs, context)
    rounds = [jobs] if streamed else [[job] for job in jobs]
    for number, at_once in enumerate(rounds):
        try:
            built, broken = _all_built(at_once, streamed, context)
            done = merge_reports(done, Report(failures=built.failures))
            verified, at_fault = verify_each(built.artifacts, context, on_proven)
            done = merge_reports(done, verified)
        except KeyboardInterrupt as error:
            raise cut_short(done, error, asked_for(jobs), "build") from error
        if (found := broken or at_fault) is not None:
            faults[label] = found
            return merge_reports(done, _not_tried([job for later in rounds[number + 1 :] for job in later], found))
    return done


def _all_built(jobs: Sequence[Job], streamed: Sequence[Job], context: Context) -> tuple[Report, SourceError | None]:
    """Build jobs, those that are ``streamed`` together, as far as they can share a stream.

    Where the model itself is at fault, return that too: other formats would fail on the same file.
    """
    done = Report()
    built = build_together(streamed, context)
    for number, job in enumerate(jobs):
        try:
            done = merge_reports(done, take_or_build(job, context, built=built))
        except SourceError as error:
            return merge_reports(done, _not_tried(jobs[number:], error)), error
    return done, None


def _not_tried(jobs: Sequence[Job], error: SourceError) -> Report:
    return Report(failures=tuple(failure(*one, "build", error) for one in asked_for(jobs)))


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


def take_or_build(job: Job, context: Context, *, stock: bool = False, built: Built) -> Report:
    """Build one job, unless it is among those that were ``built`` at the same time; what is whole of it is kept.

    Raises SourceError where the model itself is at fault, and CutShortError on Ctrl-C.
    """
    try:
        if (found := found_for(job, built)) is not None:
            return found
        return build_job(job, context, stock=stock)
    except SourceError:
        raise
    except PhiBotError as error:
        return partial_report(job, context.workspace, error)
    except KeyboardInterrupt as error:
        why = interruption()
        raise CutShortError(partial_report(job, context.workspace, why)) from error


def verify_each(
    artifacts: Sequence[Artifact], context: Context, on_proven: Callable[[Artifact], None]
) -> tuple[Report, SourceError | None]:
    """Return what came of verifying, and the error of the last model that is itself at fault."""
    proven: list[Artifact] = []
    failures: list[Failure] = []
    broken: dict[str, SourceError] = {}  # by the content of what they were made from
    with Verifying(artifacts, context) as verifying:
        for artifact in artifacts:
            source, variant = artifact.build.source, artifact.build.variant
            try:
                if (known := broken.get(source.content_digest)) is not None:
                    raise known
                proven.append(verifying.verify(artifact))
            except PhiBotError as error:
                failures.append(failure(source.label, variant.name, "verify", error))
                if isinstance(error, SourceError):
                    broken[source.content_digest] = error
            except KeyboardInterrupt as error:
                done = Report(artifacts=tuple(proven), failures=tuple(failures))
                wanted = [(a.build.source.label, a.build.variant.name) for a in artifacts]
                raise cut_short(done, error, wanted, "verify") from error
            else:
                on_proven(proven[-1])
    return Report(artifacts=tuple(proven), failures=tuple(failures)), next(reversed(broken.values()), None)


def asked_for(jobs: Iterable[Job]) -> Iterator[tuple[str, str]]:
    """Yield the releases and variants of jobs, as failures name them."""
    yield from ((job.release.label, v.variant.name) for job in jobs for v in job.variants)
