"""Existing files of a job, and whether the disk has room for the rest, beside the whole source or a stream."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bot.building.release_at_hand import can_stream, forget_download, missing_bytes
from bot.context import Context
from bot.errors import DiskTooSmallError, PhiBotError
from bot.progress import Silent
from bot.proving.imatrix_trial import to_build
from bot.records.artifacts import Release
from bot.records.plans import Job, PlannedVariant
from bot.source import sparse_files
from bot.source.sparse_files import streamed_bytes
from bot.workspace import Workspace


def streams(job: Job, context: Context) -> bool:
    """Say whether the source of a job is to stream: as planned, or because the disk is smaller than was thought.

    Raises DiskTooSmallError where there is no room either way.
    """
    workspace = context.workspace
    possible = can_stream(job.release, workspace)
    missing, least = missing_bytes(job.release, workspace), streamed_bytes(job.release)
    if possible and job.source == "streamed":
        _need_disk_streamed(job, least, context)
        return True
    try:
        need_disk(job, workspace, missing)
    except DiskTooSmallError:
        if not possible:
            raise
        _need_disk_streamed(job, least, context)
        context.display.say(
            f"The weights of {job.release.label} do not fit on the disk beside the files made of them, so they stream"
        )
        return True
    return False


def streaming(jobs: Sequence[Job], context: Context) -> list[Job]:
    """Return the jobs whose source is to stream. What has no room either way is not among them: building it says so."""
    unsaid = replace(context, display=Silent())
    found = []
    for job in jobs:
        with suppress(PhiBotError):
            if streams(job, unsaid):
                found.append(job)
    return found


def in_turns(jobs: Sequence[Job], context: Context) -> Iterator[tuple[Job, ...]]:
    """Yield the jobs of one release, all together where the disk holds what comes of them.

    Where it does not, and what is published can be removed, in groups that it holds. A job that is too large by itself
    is a group of its own; building it says so. Where a group leaves no room for the whole source, that streams.
    """
    release, workspace = jobs[0].release, context.workspace
    room = workspace.free()
    least, whole = _source_bytes(release, workspace)  # known once, for a turn may fetch it

    def turn(group: Sequence[Job]) -> tuple[Job, ...]:
        scarce = len(group) > 1 and least < whole and _taken(group, workspace) + whole > room
        return tuple(replace(job, source="streamed") for job in group) if scarce else tuple(group)

    group: list[Job] = []
    for job in jobs:
        if group and context.config.publish.namespace is not None and _taken([*group, job], workspace) + least > room:
            formats = ", ".join(one.format for one in group)
            context.display.say(
                f"The disk does not hold all files of {job.release.label} together: {formats} come first"
            )
            yield turn(group)
            group = []
        group.append(job)
    if group:
        yield turn(group)


def _taken(jobs: Sequence[Job], workspace: Workspace) -> int:
    """Return the bytes of disk that jobs of one release will take beside its source."""
    return sum(disk_to_come(job, workspace) for job in jobs)


def _source_bytes(release: Release, workspace: Workspace) -> tuple[int, int]:
    """Return the bytes of disk that the source of a release will take: the least, and if it does not stream."""
    missing = missing_bytes(release, workspace)
    return (min(missing, streamed_bytes(release)) if can_stream(release, workspace) else missing), missing


def _need_disk_streamed(job: Job, least: int, context: Context) -> None:
    """Raise DiskTooSmallError unless there is room to stream, without what a download left that is not gone on with."""
    try:
        need_disk(job, context.workspace, least)
    except DiskTooSmallError:
        if not forget_download(job.release, context):
            raise
        need_disk(job, context.workspace, least)


def need_disk(job: Job, workspace: Workspace, source_bytes: int) -> None:
    """Raise DiskTooSmallError unless there is room for what is made and for so much of the source."""
    needed = disk_to_come(job, workspace) + source_bytes
    if left_of(job, workspace):
        workspace.need_disk(needed, f"Building {len(job.variants)} {job.format} variants of {job.release.label}")


def disk_to_come(job: Job, workspace: Workspace) -> int:
    """Return how many bytes of disk a job will take beside its source, without what is there of it."""
    return job.estimate.output + job.estimate.disk - _whole_already(job, workspace)


def left_of(job: Job, workspace: Workspace) -> list[PlannedVariant]:
    """Return what of a job is to be built."""
    return [v for v in job.variants if not workspace.has(folder_of(v, job.release, workspace))]


def _whole_already(job: Job, workspace: Workspace) -> int:
    """Return how many bytes of the outputs a build that was killed has left. Files that are not whole have holes."""
    built = [p for v in job.variants for p in to_build(v)]
    parts = [f for p in built for f in workspace.partial(p.build_key, job.release).glob("*.part")]
    files = [f for p in built for f in (folder_of(p, job.release, workspace) / "files").rglob("*") if f.is_file()]
    return min(sum(sparse_files.allocated_bytes(f) for f in (*parts, *files)), job.estimate.output + job.estimate.disk)


def folder_of(planned: PlannedVariant, release: Release, workspace: Workspace) -> Path:
    """Return the folder of a variant's artifact, which may not be there."""
    return workspace.artifact(planned.build_key, release)
