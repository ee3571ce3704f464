"""When a fast path is taken: it gives the tool's own bytes for less, where it knows all that it leans on.

Each one leans on how its tool works inside. So it names the versions that it was compared with, and refuses what it
does not cover; then the tool itself does all of the work, and a line says so.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from bot.records.tasks import BuildTask
from bot.worker.harness import NeedsWholeSource, Reporter


class NotCovered(Exception):  # noqa: N818 - not an error: the tool itself does the work then
    """A fast path does not do this. The message is one clause that says why."""


def require_versions(pinned: Mapping[str, str]) -> None:
    """Raise NotCovered unless each package is installed in the version that a fast path was compared with."""
    for package, version in pinned.items():
        found = metadata.version(package)
        if found != version:
            raise NotCovered(f"{package} is {found}, and it was compared with {version}")


def take(task: BuildTask, report: Reporter, fast: Callable[[], None], stock: Callable[[], None]) -> None:
    """Build by the fast path, or by the stock one where it is asked for or the fast one raises NotCovered.

    ``fast`` must raise NotCovered before it reports anything built. Raises NeedsWholeSource where the stock path would
    have to read a source that streams.
    """
    reason = "as asked for"
    if not task.stock:
        try:
            with alone(task):
                fast()
        except NotCovered as why:
            reason = str(why)
        else:
            return
    leave_to_stock(task, report, reason)
    stock()


def leave_to_stock(task: BuildTask, report: Reporter, reason: str) -> None:
    """Say why the tool itself does the work now. Raises NeedsWholeSource where it would read a source that streams."""
    if task.streamed:
        raise NeedsWholeSource(reason)
    report.note(f"Stock path: {reason}")


@contextmanager
def alone(task: BuildTask) -> Iterator[None]:
    """Let one process at a time write into the partial folders of a task.

    A worker whose bot was killed ends by itself, but not at once: not before it leaves the tool's native code.
    """
    held: list[int] = []
    try:
        for target in task.targets if sys.platform != "win32" else ():
            if target.partial:
                import fcntl

                Path(target.partial).mkdir(parents=True, exist_ok=True)
                held.append(os.open(Path(target.partial) / ".lock", os.O_RDWR | os.O_CREAT, 0o666))
                fcntl.flock(held[-1], fcntl.LOCK_EX)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
