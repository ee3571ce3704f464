"""When a fast path is taken: it gives the tool's own bytes for less, where it knows all that it leans on.

Each one leans on how its tool works inside. So it names the versions that it was compared with, and refuses what it
does not cover; then the tool itself does all of the work, and a line says so.
"""

from collections.abc import Callable, Mapping
from importlib import metadata

from bot.tasks import BuildTask
from bot.workers.harness import NeedsWholeSource, Reporter


class NotCovered(Exception):  # noqa: N818
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
            fast()
        except NotCovered as why:
            reason = str(why)
        else:
            return
    if task.streamed:
        raise NeedsWholeSource(reason)
    report.note(f"Stock path: {reason}")
    stock()
