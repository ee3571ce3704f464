"""Keep: the working folder within its limits, and room on the disk for what comes next."""

import shutil
from collections.abc import Sequence
from dataclasses import replace

from bot.building.cleaning import CleaningRequest, clean, cleaning_request
from bot.building.release_at_hand import can_stream, missing_bytes
from bot.catalogue.naming import repo_of
from bot.context import Context
from bot.printable import size
from bot.records.artifacts import BuildRecord
from bot.records.plans import Job, Plan
from bot.source.sparse_files import streamed_bytes


def keep_within(context: Context, todo: Plan, jobs: Sequence[Job] = ()) -> None:
    """Remove what ``work.keep`` says is to go, and what stands in the way of the ``jobs`` of a release that come next.

    To be called between two releases, when this process uses nothing. ``todo`` knows what is published by now.
    """
    _clean(context, _request(context, todo, jobs))


def make_room(context: Context, todo: Plan, jobs: Sequence[Job]) -> None:
    """Remove what stands in the way of all ``jobs`` of a release together.

    Where that would not be enough, only what is published goes: sources and references may serve the jobs in turns.
    """
    request = _request(context, todo, jobs)
    spared = clean(context.workspace, request, dry_run=True).freed
    if context.workspace.free() + spared < request.need:
        request = replace(request, states=("abandoned", "published"))
    _clean(context, request)


def _request(context: Context, todo: Plan, jobs: Sequence[Job]) -> CleaningRequest:
    namespace, template = context.config.publish.namespace, context.config.publish.repo
    done = {(planned.build_key, planned.repo_id) for planned in todo.done}

    def is_done(build: BuildRecord) -> bool:
        if namespace is None:
            return False
        return (build.build_key, repo_of(namespace, build.source.repo_id, build.variant, template)) in done

    need = sum(job.estimate.output for job in jobs) + max((job.estimate.disk for job in jobs), default=0)
    need += max((_source_bytes(job, context) for job in jobs), default=0)
    return cleaning_request(context.config.work.keep, need=need, is_done=is_done)


def _clean(context: Context, request: CleaningRequest) -> None:
    cleaned = clean(context.workspace, request, dry_run=False)
    if cleaned.freed:
        count = len(cleaned.removed)
        context.display.say(
            f"Cleaned the working folder: {count} unused {'entry' if count == 1 else 'entries'}, "
            f"{size(cleaned.freed)} freed, {size(cleaned.kept)} kept"
        )


def _source_bytes(job: Job, context: Context) -> int:
    """Return what a source takes; one that the disk would not hold beside the files streams, whatever was planned."""
    workspace, least = context.workspace, streamed_bytes(job.release)
    missing = missing_bytes(job.release, workspace)
    whole = shutil.disk_usage(workspace.root).total if workspace.root.is_dir() else missing
    beside = job.estimate.output + job.estimate.disk
    scarce = job.source == "streamed" or (beside + missing > whole and can_stream(job.release, workspace))
    return min(least, missing) if scarce else missing
