"""Batches: which placed jobs run together on one machine."""

from collections.abc import Iterable, Mapping, Sequence

from bot.machines.placing import lock_of
from bot.records.plans import Job


def batches(jobs: Iterable[Job], disks: Mapping[str, int]) -> list[tuple[str, tuple[Job, ...]]]:
    """Return the names of runners, each with the jobs of one release that run there one after the other.

    One download serves them all, as long as what they leave fits on the runner's disk: ``disks`` has its bytes by the
    runner's name. Jobs keep their order; one without a placement is in no batch.
    """
    groups: dict[tuple[str, str], list[list[Job]]] = {}
    for job in jobs:
        if job.placement is None:
            continue
        name = job.placement.runner
        found = groups.setdefault((f"{job.release.repo_id}@{job.release.commit}", name), [])
        if found and _disk([*found[-1], job]) <= disks.get(name, 0):
            found[-1].append(job)
        else:
            found.append([job])
    return [(name, tuple(batch)) for (_, name), group in groups.items() for batch in group]


def _disk(batch: Sequence[Job]) -> int:
    """Return what jobs of one release take of a disk: outputs stay until all are published, scratch does not.

    So do toolchains. The source and the reference's toolchain are there once.
    """
    release = batch[0].release
    shared = release.all_bytes + release.bytes_beside_weights + lock_of("reference").disk
    own = sum(job.estimate.output + lock_of(job.format).disk for job in batch)
    return shared + own + max(job.estimate.disk for job in batch)
