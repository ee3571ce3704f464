"""Progress of long work: bars on a terminal, plain lines everywhere else. All of it on standard error."""

import itertools
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bot.printable import duration, printable, size
from bot.system.heartbeat import Heartbeat

_LINE_SECONDS = 15.0  # a plain line at most so often: a log of an hour stays readable


class Task(Protocol):
    """One piece of long work."""

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        """Say how far it is. ``what`` may change on the way; a total of 0 means that it is not known."""
        ...


def show_event(task: Task, event: Mapping[str, Any]) -> None:
    """Show an event of progress that a worker printed."""
    task.update(event["what"], event["done"], event["total"], event["unit"])


class Display(Protocol):
    """The display of long work."""

    def say(self, text: str) -> None:
        """Print one line."""
        ...

    def during(self, title: str) -> AbstractContextManager[None]:
        """Give a sign of life until the block ends, wherever nothing else is shown for half a minute."""
        ...

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Show a piece of work until the block ends, and then how long it took."""
        ...


class Silent:
    """Shows nothing: for ``--quiet`` and for tests."""

    def during(self, title: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Show nothing."""
        return nullcontext()

    def say(self, text: str) -> None:
        """Print nothing."""

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:  # noqa: ARG002
        """Show nothing."""
        yield _SilentTask()


class _SilentTask:
    def update(self, what: str, done: int, total: int, unit: str) -> None:
        pass


class Lines:
    """Plain lines, for pipes and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._heartbeat = Heartbeat(self.say)

    def say(self, text: str) -> None:
        """Print one line."""
        self._heartbeat.heard()
        _print(self._console, text)

    def during(self, title: str) -> AbstractContextManager[None]:
        """Print a line now and then, where nothing else is printed, until the block ends."""
        started = time.monotonic()
        return self._heartbeat.during(lambda: _so_far(title, started))

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Print a line at the start, one now and then, and one at the end."""
        self.say(f"{title} …")
        started = time.monotonic()
        task = _LineTask(self, title)
        with self._heartbeat.during(lambda: _so_far(task.now, started)):
            yield task
        self.say(f"{title}: done in {duration(time.monotonic() - started)}")


class _LineTask:
    def __init__(self, lines: Lines, title: str) -> None:
        self._lines, self._title = lines, title
        self._last = time.monotonic()
        self.now = title  #: what goes on, and how far it is

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        self.now = f"{self._title}: {what} {progress_text(done, total, unit)}".rstrip()
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            self._lines.say(self.now)


class Bars:
    """Bars with the time left, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._heartbeat = Heartbeat(self.say)

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._heartbeat.heard()
        _print(self._console, text)

    def during(self, title: str) -> AbstractContextManager[None]:
        """Print a line now and then, where there is neither a bar nor another line, until the block ends."""
        started = time.monotonic()
        return self._heartbeat.during(lambda: _so_far(title, started))

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Show a bar while the block runs, and a line at the end."""
        started = time.monotonic()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        # Standard output is not rich's: with --json it holds the result.
        bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
        with self._heartbeat.during(lambda: None), bar as progress:  # it moves by itself, and has a clock
            yield _BarTask(progress, title)
        self.say(f"{title}: done in {duration(time.monotonic() - started)}")


class _BarTask:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._title = progress, printable(title)
        self._what = ""
        self._id = progress.add_task(self._title, total=None, amount="")

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        if what != self._what:  # another piece of work: its own speed, its own time left
            self._what = what
            self._progress.remove_task(self._id)
            self._id = self._progress.add_task(f"{self._title}: {printable(what)}", total=None, amount="")
        self._progress.update(self._id, completed=done, total=total or None, amount=progress_text(done, total, unit))


class Together:
    """Shows work that goes on in several threads as one ``task``: its bars would be drawn over each other.

    Counts in ``unit`` of all pieces of work are added up.
    """

    def __init__(self, display: Display, task: Task, what: str, unit: str) -> None:
        self._display, self._task, self._what, self._unit = display, task, what, unit
        self._alone = threading.Lock()
        self._known: dict[int, tuple[int, int]] = {}
        self._numbers = itertools.count()

    def during(self, title: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Show nothing: the task does."""
        return nullcontext()

    def say(self, text: str) -> None:
        """Print one line."""
        with self._alone:
            self._display.say(text)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Count a piece of work, and print a line at its end."""
        started = time.monotonic()
        yield _Part(self, next(self._numbers))
        self.say(f"{title}: done in {duration(time.monotonic() - started)}")

    def count(self, number: int, done: int, total: int, unit: str) -> None:
        """Say how far a piece of work is."""
        if unit != self._unit:
            return
        with self._alone:
            self._known[number] = (done, total)
            self._task.update(
                self._what, sum(d for d, _ in self._known.values()), sum(t for _, t in self._known.values()), unit
            )


class _Part:
    def __init__(self, together: Together, number: int) -> None:
        self._together, self._number = together, number

    def update(self, what: str, done: int, total: int, unit: str) -> None:  # noqa: ARG002
        self._together.count(self._number, done, total, unit)


def display(*, quiet: bool = False) -> Display:
    """Return the display that fits standard error."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    if sys.stderr.isatty() and not console.is_dumb_terminal:  # rich takes a pipe for a terminal if FORCE_COLOR is set
        return Bars(console)
    return Lines(Console(stderr=True, force_terminal=False))


def _print(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def _so_far(what: str, started: float) -> str:
    return f"{what}; {duration(time.monotonic() - started)} so far"


def progress_text(done: int, total: int, unit: str) -> str:
    """Say ``done`` of ``total`` in a person's units."""
    if unit == "bytes":
        return f"{size(done)} of {size(total)}" if total else size(done)
    return f"{done} of {total} {unit}" if total else f"{done} {unit}"
