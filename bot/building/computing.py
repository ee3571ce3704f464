"""What is computed once for a release, by one process at a time, and kept in a folder for all that need it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bot.context import Context
from bot.progress import Task


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Where something is computed: its folder ``out``, which is empty, ``scratch`` beside it, its task and its log."""

    scratch: Path
    out: Path
    task: Task
    log: Path


@contextmanager
def computing(folder: Path, kind: str, title: str, context: Context) -> Iterator[Computing | None]:
    """Have a ``folder`` of the workspace computed in the block; it is there when the block ends, whole, or not at all.

    Another process may do that meanwhile: then it is waited for, and the block gets None. ``kind`` names what it is.
    """
    workspace, display = context.workspace, context.display
    with workspace.only_one(f"{kind}-{folder.name}", display):
        if workspace.has(folder):
            yield None
            return
        with workspace.scratch() as scratch, display.task(title) as task:
            out = scratch / kind
            out.mkdir()
            yield Computing(scratch=scratch, out=out, task=task, log=workspace.log(f"{kind}-{folder.name[:12]}"))
            folder.parent.mkdir(parents=True, exist_ok=True)
            out.rename(folder)
