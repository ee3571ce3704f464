"""Build the jobs of a release that streams at the same time, so that they read it once.

Each has its own worker, as always. The workers read in one order (worker/order.py) what comes once
(building/streams.py); the slowest sets the pace.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import groupby

from bot.building import moments, sensitivities
from bot.building.release_at_hand import AtHand, at_hand
from bot.context import Context
from bot.errors import BuildError, DiskTooSmallError, NotFiniteError, PhiBotError, SourceError
from bot.formats import recipes
from bot.machines.estimate_models import expected
from bot.progress import Together
from bot.proving.build_job import build_job, partial_report
from bot.proving.job_disk import disk_to_come, left_of
from bot.records.artifacts import Report
from bot.records.failures import interruption
from bot.records.plans import Job
from bot.source.sparse_files import streamed_bytes
from bot.system.together import memory, run_together
from bot.toolchains.enter import Ending, WholeSourceError
from bot.toolchains.install import ensure

Built = dict[tuple[str, str], Report | SourceError]  #: what came of jobs, by the content of their release and format


def build_together(jobs: Sequence[Job], context: Context) -> Built:
    """Build those of ``streaming`` jobs that can share the stream of their release; return what came of each.

    They are those that measure no importance matrix and fit the memory and the disk of this machine together.
    All others, and one whose toolchain needs more than a stream, are not in what is returned. A job that fails holds up
    no other. On Ctrl-C the workers are ended.
    """
    built: Built = {}
    for _, group in groupby(jobs, key=lambda job: job.release.content_digest):
        sharing = [job for job in group if _can_share(job, context)]
        if len(sharing) > 1 and _disk_does(sharing, context):
            built |= _build(sharing, context)
    return built


def _build(jobs: Sequence[Job], context: Context) -> Built:
    release, display = jobs[0].release, context.display
    try:
        with ExitStack() as stack:
            given = stack.enter_context(at_hand(release, context, streamed=True))
            stream, ending = given.stream, Ending()
            if stream is None:  # somebody has fetched it meanwhile
                return {}
            jobs = list(_in_memory(_calibrated(jobs, given, context), given))
            if len(jobs) < 2:
                return {}
            display.say(f"The weights of {release.label} stream, once for all of {', '.join(j.format for j in jobs)}")
            names = ", ".join(v.variant.name for job in jobs for v in job.variants)
            shown = Together(display, stack.enter_context(display.task(f"Building {names}")), "writing", "bytes")
            # All take their places before the first one begins: what it is done with stays for the others.
            places = [replace(given, reader=stack.enter_context(stream.reader()), ending=ending) for _ in jobs]
            beside = replace(context, display=shown)
            work = [partial(_build_one, job, place, beside) for job, place in zip(jobs, places, strict=True)]

            def stop() -> None:
                stream.fail(interruption())
                ending.end()

            results = run_together(work, stop)
    except SourceError as error:
        return {_key(job): error for job in jobs}
    except PhiBotError:
        return {}  # each job for itself says what is wrong
    return {_key(job): found for job, found in zip(jobs, results, strict=True) if found is not None}


def _build_one(job: Job, given: AtHand, context: Context) -> Report | SourceError | None:
    """Build a job; None where a stream does not do for it."""
    try:
        return build_job(job, context, given=given)
    except SourceError as error:
        return error
    except WholeSourceError:
        return None
    except PhiBotError as error:
        return partial_report(job, context.workspace, error)
    finally:
        if given.reader is not None:  # one that failed before its worker began would keep all that comes
            given.reader.close()


def _can_share(job: Job, context: Context) -> bool:
    if any(recipes.needs_matrix(v.variant) or recipes.is_tried(v.variant) for v in job.variants):
        return False  # measuring a matrix is one more worker, in the middle of the job
    if not left_of(job, context.workspace):
        return False
    try:
        ensure(job.format, context.display)
    except PhiBotError:
        return False
    return True


def _calibrated(jobs: Sequence[Job], given: AtHand, context: Context) -> Sequence[Job]:
    """Return the jobs that find all that is measured on the release: that is done now, by workers of their own.

    Inside a job it would be one more reader in the middle, and of several jobs all but one would wait for its end. What
    comes stays for them meanwhile, until the disk is full, and then nothing more comes for the one that they wait for.
    """
    needing = [job for job in jobs if any(v.variant.is_calibrated for v in left_of(job, context.workspace))]
    if not needing:
        return jobs
    try:
        moments.moments(jobs[0].release, given, context)
        if any(recipes.chooses_types(v.variant) for job in needing for v in left_of(job, context.workspace)):
            sensitivities.sensitivities(jobs[0].release, given, context)
    except (BuildError, NotFiniteError, WholeSourceError):
        return [job for job in jobs if job not in needing]  # each for itself says what is wrong
    return jobs


def _disk_does(jobs: Sequence[Job], context: Context) -> bool:
    needed = sum(disk_to_come(job, context.workspace) for job in jobs) + streamed_bytes(jobs[0].release)
    try:
        context.workspace.need_disk(needed, "Building several formats at the same time")
    except DiskTooSmallError:
        return False
    return True


def _in_memory(jobs: Sequence[Job], given: AtHand) -> Iterator[Job]:
    """Yield the jobs whose workers this machine has memory for at the same time."""
    left = memory()
    for job in jobs:
        takes = max(expected("build", given.shape, v.variant, "memory") for v in job.variants)
        if takes <= left:
            left -= takes
            yield job


def _key(job: Job) -> tuple[str, str]:
    return job.release.content_digest, job.format


def found_for(job: Job, built: Built) -> Report | None:
    """Return what came of a job, or None where it is still to be built. Raises SourceError as building it did."""
    found = built.get(_key(job))
    if isinstance(found, SourceError):
        raise found
    return found
