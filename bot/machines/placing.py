"""Place: which runner builds each job, what that takes and costs, and how much of it one run may begin."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from bot import devices, toolchains
from bot.config import Config
from bot.devices.here import missing_for
from bot.errors import NoRunnerError, PhiBotError, UnsupportedArchitectureError
from bot.formats.needs import proving_device
from bot.formats.registry import Needs, all_formats
from bot.machines.estimate import estimate
from bot.machines.run_limits import within_bounds
from bot.machines.runners import LOCAL, Runner, built_in
from bot.printable import size
from bot.records.artifacts import Failure, Variant
from bot.records.failures import failure
from bot.records.plans import Job, Placement, Plan, PlannedVariant
from bot.source.shape import Shape, guessed_shape
from bot.source.sparse_files import streamed_bytes
from bot.toolchains.lock import Lock, read

_SPARE = 0.9  # of a runner's memory; the rest is the system's
BYTES_A_SECOND = 50e6  #: of downloads and uploads: what data centres give at least
_USEFUL_CORES = 8  # more of them hardly help: much of a build is one thread's
_BESIDE_WEIGHTS = 10**9  # bytes on a GPU: a context and its logits
_COMPILING = 600.0  # processor seconds of compiling a toolchain that is compiled
_INSTALLING = 30.0  # seconds of installing any


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The demand of a job on a fresh machine, in bytes and processor seconds.

    ``gpu_memory`` is 0 where it takes no GPU. ``moved`` is downloaded and uploaded, ``setup`` what compiling takes.
    """

    needs: Needs
    devices: frozenset[str]
    memory: int
    gpu_memory: int
    disk: int
    moved: int
    cpu_seconds: float
    setup: float


def place_jobs(todo: Plan, *, runners: Sequence[Runner], shapes: Mapping[str, Shape], config: Config) -> Plan:
    """Give every job the cheapest of the runners that has what it needs, and postpone what is over the bounds.

    ``shapes`` are by content digest; a release that has none is estimated by the sizes of its files. A job whose
    variants need different machines, or do not fit together, is split. A job that fits nowhere becomes a Failure of
    NoRunnerError, or of UnsupportedArchitectureError where none of the runners is such a machine at all. Where several
    runners cost the same, a format's preference decides, then the time, then the name.
    """
    placed: list[Job] = []
    failures: list[Failure] = []
    for job in todo.jobs:
        shape = shapes.get(job.release.content_digest) or guessed_shape(job.release)
        for part in _by_needs(job):
            whole = _placed(part, shape, runners)
            if whole is not None:
                placed.append(whole)
                continue
            for one in _one_by_one(part):
                alone = _placed(one, shape, runners)
                if alone is not None:
                    placed.append(alone)
                else:
                    failures += _nowhere(one, shape, runners)
    kept, postponed = within_bounds(placed, config.plan)
    return replace(
        todo, jobs=tuple(kept), failures=(*todo.failures, *failures), postponed=(*todo.postponed, *postponed)
    )


def demand(job: Job) -> Demand:
    """Return what a job with an estimate takes of a machine that has nothing yet, toolchains included.

    A source that streams takes little disk, and comes again for the reference and for verifying.
    """
    release, e = job.release, job.estimate
    wanted = release.all_bytes
    streamed = job.source == "streamed"
    source = streamed_bytes(release) if streamed else wanted + release.view_bytes
    locks = [lock_of(name) for name in (job.format, "reference")]
    needs = all_formats()[job.format].needs(job.variants[0].variant)
    return Demand(
        needs=needs,
        devices=frozenset(proving_device(v.variant) for v in job.variants),
        memory=e.memory,
        gpu_memory=0 if needs.accelerator == devices.NONE else e.output + _BESIDE_WEIGHTS,
        disk=source + e.disk + e.output + sum(found.disk for found in locks),
        moved=wanted * (3 if streamed else 1) + e.output,
        cpu_seconds=e.cpu_seconds,
        setup=sum(_COMPILING for found in locks if found.build is not None),
    )


@cache
def lock_of(toolchain: str) -> Lock:
    """Return the lock of a toolchain, read once."""
    return read(toolchains.lock_file(toolchain))


def fits(wanted: Demand, runner: Runner) -> bool:
    """Say whether a runner has what a job takes.

    The machine at hand may run what ``machine.lacks`` says it can, and its disk is looked at when the job begins: some
    of what it takes may be there already.
    """
    if wanted.memory > _SPARE * runner.memory or wanted.gpu_memory > runner.accelerator_memory:
        return False
    return _is_of_its_kind(wanted, runner) and (runner.name == LOCAL or wanted.disk <= runner.disk)


def _is_of_its_kind(wanted: Demand, runner: Runner) -> bool:
    """Say whether a runner has the system, the processor and the GPU."""
    if runner.name == LOCAL:
        return all(missing_for(device) is None for device in wanted.devices)
    needs = wanted.needs
    if (runner.system, runner.architecture) not in needs.platforms:
        return False
    return needs.accelerator in (devices.NONE, runner.accelerator)


def placement(wanted: Demand, runner: Runner) -> Placement:
    """Return what a job takes on a runner. Its cost is by the minute, as GitHub and Hugging Face count."""
    cores = min(runner.cores, _USEFUL_CORES)
    seconds = wanted.cpu_seconds / cores
    if runner.name != LOCAL:
        seconds += wanted.setup / cores + wanted.moved / BYTES_A_SECOND + 2 * _INSTALLING
    minutes = math.ceil(seconds / 60)
    return Placement(runner=runner.name, seconds=round(seconds, 1), cost=round(minutes * runner.price / 60, 6))


def _by_needs(job: Job) -> Iterator[Job]:
    form = all_formats()[job.format]
    groups: dict[Needs, list[PlannedVariant]] = {}
    for planned in job.variants:
        groups.setdefault(form.needs(planned.variant), []).append(planned)
    yield from (replace(job, variants=tuple(group)) for group in groups.values())


def _one_by_one(job: Job) -> Iterator[Job]:
    yield from (replace(job, variants=(planned,)) for planned in job.variants)


def _placed(job: Job, shape: Shape, runners: Sequence[Runner]) -> Job | None:
    """Return a job with its estimate and its runner, or None where none fits.

    Its source is kept where there is room for it, and streams where there is not.
    """
    job = replace(job, estimate=estimate(shape, [v.variant for v in job.variants], job.release.config))
    kept, streamed = demand(job), demand(replace(job, source="streamed"))
    able = [(_rank(kept, r), r, kept) for r in runners if fits(kept, r)]
    if _can_stream(job):
        there = {r.name for _, r, _ in able}
        able += [
            (_rank(streamed, r), r, streamed) for r in runners if r.name not in there and _fits_streamed(streamed, r)
        ]
    if not able:
        return None
    _, best, wanted = min(able, key=lambda choice: choice[0])
    return replace(job, placement=placement(wanted, best), source="streamed" if wanted is streamed else "kept")


def _can_stream(job: Job) -> bool:
    return job.release.folder is None


def _fits_streamed(wanted: Demand, runner: Runner) -> bool:
    return runner.system == "linux" and fits(wanted, runner)  # where files have holes: bot/source/sparse_files.py


def _rank(wanted: Demand, runner: Runner) -> tuple[float, int, float, str]:
    found = placement(wanted, runner)
    platform, platforms = (runner.system, runner.architecture), wanted.needs.platforms
    preference = platforms.index(platform) if platform in platforms else len(platforms)
    return found.cost, preference, found.seconds, runner.name


def _nowhere(job: Job, shape: Shape, runners: Sequence[Runner]) -> Iterator[Failure]:
    job = replace(job, estimate=estimate(shape, [v.variant for v in job.variants], job.release.config))
    wanted = demand(job)
    able = [r for r in runners if _is_of_its_kind(wanted, r)]
    would_do = sorted((_rank(wanted, r), r.name) for r in built_in() if fits(wanted, r))
    hint = "Describe a machine of yours that has it, in a table [runner.NAME] (docs/planning.md)."
    if would_do:
        hint = f"{would_do[0][1]} would do (--on {would_do[0][1]})."
    for planned in job.variants:
        words = f"needs {_in_words(wanted, planned.variant)}"
        error: PhiBotError
        if able:
            best = max(able, key=lambda r: (r.memory, r.disk, r.name))
            largest = f"the largest runner known, {best.name}, has {size(best.memory)} and {size(best.disk)}"
            error = NoRunnerError(f"{words}; {largest}", hint=hint)
        else:  # no machine of that kind: no fault of anybody's
            error = UnsupportedArchitectureError(f"{words}; none of the runners is such a machine", hint=hint)
        yield failure(job.release.label, planned.variant.name, "plan", error)


_NAMES = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}


def _in_words(wanted: Demand, variant: Variant) -> str:
    if not wanted.needs.platforms:
        return f"a runtime for {proving_device(variant)}, which no runner has"
    platforms = " or ".join(f"{_NAMES[system]} {architecture}" for system, architecture in wanted.needs.platforms)
    accelerator = wanted.needs.accelerator
    gpu = ""
    if accelerator != devices.NONE:
        gpu = f", {devices.of_accelerator(accelerator).needed} of {size(wanted.gpu_memory)},"
    return f"{platforms}{gpu} with {size(wanted.memory / _SPARE)} of memory and {size(wanted.disk)} of disk"
