"""The limits of a worker: many times the expected use, so that only a runaway worker is stopped.

The estimate (docs/estimates.md) is what an honest run takes. One may take a toolchain's own way, which holds whole
models in float32; its machine may be ten times slower than ours and have other work.
"""

import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bot.errors import ConfigError
from bot.machines.estimate_models import What, expected
from bot.records.artifacts import Record, Variant
from bot.records.tasks import BuildTask, ImportanceTask, MomentsTask, ReferenceTask, VerifyTask
from bot.source.shape import Shape
from bot.system import machine
from bot.toolchains.watch import WorkerLimits

VARIABLE = "PHI_BOT_WORKER_LIMITS"
_TIME, _MEMORY = 60, 3  # times what is expected
_LEAST_SECONDS = 2 * 60 * 60.0
_LEAST_MEMORY = 4 << 30
_WEIGHTS = 8  # times the weights as they are stored, which are held in any case: a toolchain widens and copies them
_SLOWEST_LINE = 100_000  # bytes a second of a source that streams
_OF_MACHINE = 0.95  # of all memory: what a worker holds past it would end other processes too


def task_limits(task: Record, shape: Shape) -> WorkerLimits:
    """Return the limits of a worker's task that has to do with a model of a shape."""
    match task:
        case BuildTask():
            return _limits(shape, "build", [t.variant for t in task.targets], streamed=task.streamed)
        case VerifyTask():
            return _limits(shape, "verify", [task.variant], streamed=task.streamed)
        case ImportanceTask():
            return _limits(shape, "verify", [task.variant])
        case ReferenceTask() | MomentsTask():
            return _limits(shape, "reference", [None], streamed=task.streamed)
    return default_limits()


def default_limits() -> WorkerLimits:
    """Return the limits of a worker that has to do with no model of a stranger's."""
    return _made(_LEAST_SECONDS, _LEAST_MEMORY)


def _limits(
    shape: Shape,
    what: What,
    variants: Sequence[Variant | None],
    *,
    streamed: bool = False,
) -> WorkerLimits:
    seconds = sum(expected(what, shape, v, "cpu_seconds") for v in variants)
    memory = max((expected(what, shape, v, "memory") for v in variants), default=0.0)
    line = shape.bytes / _SLOWEST_LINE if streamed else 0.0
    return _made(
        max(_TIME * seconds, _LEAST_SECONDS) + line, max(_MEMORY * memory, _LEAST_MEMORY) + _WEIGHTS * shape.bytes
    )


def _made(seconds: float, memory: float) -> WorkerLimits:
    times = _times()
    return WorkerLimits(seconds=times * seconds, memory=round(min(times * memory, _OF_MACHINE * _all_memory())))


def _all_memory() -> float:
    """Return the bytes that all processes here can hold; infinity where a system swaps to as much disk as there is."""
    if sys.platform != "linux":
        return math.inf
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    swap = next((int(line.split()[1]) << 10 for line in lines if line.startswith("SwapTotal:")), 0)
    return machine.memory() + swap


def _times() -> float:
    """Return what a person multiplies the limits with, in the environment."""
    text = os.environ.get(VARIABLE, "1")
    with suppress(ValueError):
        if 0 < float(text) < 1e6:
            return float(text)
    raise ConfigError(f"{VARIABLE} is {text!r}", hint="Set it to a number above 0, such as 2 for twice the limits.")
