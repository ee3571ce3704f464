"""Steps of phi-bot in processes of their own, and what these and their workers took."""

import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from bot.records.artifacts import Record

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Taken(Record):
    """What a step took: seconds of processor, and the most memory that one of its processes had, in bytes."""

    cpu_seconds: float
    peak_memory: int


def apart(step: Callable[..., T], *arguments: object) -> tuple[T, Taken]:
    """Run a step in a process of its own; return what it does, and what its workers took."""
    with ProcessPoolExecutor(max_workers=1) as pool:
        return pool.submit(_measured, step, *arguments).result()


def _measured(step: Callable[..., T], *arguments: object) -> tuple[T, Taken]:
    result = step(*arguments)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss << 10
    return result, Taken(cpu_seconds=round(used.ru_utime + used.ru_stime, 1), peak_memory=peak)
