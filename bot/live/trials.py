"""Trials of calls, one after the other: what each was to show, what it showed, how long it took, and what to do."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bot.errors import PhiBotError
from bot.printable import one_line, printable
from bot.progress import Task
from bot.records.artifacts import Record

Status = Literal["ok", "note", "failed", "not tried"]

_LONGEST = 300  # characters of what was seen
_REPORT = "This is a fault of phi-bot's or of a library's: report it with this line."


@dataclass(frozen=True, kw_only=True)
class Tried(Record):
    """A row of the table: a call, and what came of it.

    ``note`` is worth knowing, and stands in the way of nothing that phi-bot does by default. ``seen`` says of what was
    not tried why not. ``seconds`` are wall time.
    """

    call: str
    status: Status
    expected: str
    seen: str
    seconds: float
    what_to_do: str | None = None


@dataclass(frozen=True)
class Seen:
    """What a call showed. With ``advice`` it is worth a note."""

    text: str
    advice: str = ""


class NotTriedError(Exception):
    """There is nothing here to try a call on; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A call to try. ``uses`` are the functions of the client that it goes through, for people and for the tests.

    ``needs`` names trials without whose success it cannot be tried. ``without`` says what does not work where the call
    fails; where that is not part of the bot's usual work (``optional``), failing is a note.
    """

    name: str
    expected: str
    action: Callable[[], Seen]
    without: str
    uses: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    optional: bool = False


def with_needs(trials: Sequence[Trial], wanted: Collection[str]) -> list[Trial]:
    """Return the trials of these names and those that they need, all of them without a name. They keep their order."""
    if not wanted:
        return list(trials)
    kept = set(wanted)
    for trial in reversed(trials):  # whatever a trial needs stands before it
        if trial.name in kept:
            kept |= set(trial.needs)
    return [trial for trial in trials if trial.name in kept]


class Course:
    """The trials of a run and their rows. ``secrets`` are texts that no row may hold."""

    def __init__(self, trials: Sequence[Trial], secrets: Sequence[str] = ()) -> None:
        self._trials = trials
        self._secrets = [secret for secret in secrets if secret]
        self._done: dict[str, Tried] = {}
        self._worked: set[str] = set()  # a note alone does not say that a call did what it should

    def run(self, task: Task) -> None:
        """Try all of them, in their order. A failure holds up those alone that need its success."""
        for number, trial in enumerate(self._trials):
            task.update(trial.name, number, len(self._trials), "calls")
            self._done[trial.name] = self._tried(trial)

    def rows(self, why_not: str) -> list[Tried]:
        """Return a row for each trial; ``why_not`` says why the run did not come to the rest of them."""
        return [self._done.get(trial.name) or untried(trial, why_not) for trial in self._trials]

    def _tried(self, trial: Trial) -> Tried:
        lacking = [name for name in trial.needs if name not in self._worked]
        if lacking:
            return untried(trial, f"it needs: {', '.join(lacking)}")
        row, worked = _attempted(trial)
        if worked:
            self._worked.add(trial.name)
        return self.masked(row)

    def masked(self, row: Tried) -> Tried:
        """Return a row without secrets, and with what was seen cut to some lines."""

        def mask(text: str) -> str:
            for secret in self._secrets:
                text = text.replace(secret, "***")
            return text

        to_do = None if row.what_to_do is None else mask(row.what_to_do)
        return replace(row, seen=mask(row.seen)[:_LONGEST], what_to_do=to_do)


def attempt(trial: Trial) -> Tried:
    """Try one call, and say what came of it. Nothing that goes wrong in it is raised but an interruption."""
    return _attempted(trial)[0]


def _attempted(trial: Trial) -> tuple[Tried, bool]:
    """Return the row of a call, and whether it did what it should."""
    begin = time.monotonic()

    def row(status: Status, seen: str, to_do: str = "") -> Tried:
        return Tried(
            call=trial.name,
            status=status,
            expected=trial.expected,
            seen=printable(seen),
            seconds=round(time.monotonic() - begin, 2),
            what_to_do=printable(to_do) or None,
        )

    failed: Status = "note" if trial.optional else "failed"
    try:
        seen = trial.action()
    except NotTriedError as reason:
        return row("not tried", str(reason)), False
    except PhiBotError as error:
        return row(failed, error.message, f"{error.hint} Without this call, {trial.without}."), False
    except Exception as error:  # noqa: BLE001 - one call that ends in an unknown way must not hide the others
        return row(failed, f"{type(error).__name__}: {one_line(str(error))}", _REPORT), False
    return row("note" if seen.advice else "ok", seen.text, seen.advice), True


def untried(trial: Trial, why: str) -> Tried:
    """Return the row of a call that was not tried."""
    return Tried(call=trial.name, status="not tried", expected=trial.expected, seen=why, seconds=0.0)


def failures(rows: Sequence[Tried]) -> Iterator[Tried]:
    """Yield the rows of calls that did not do what the bot needs."""
    return (row for row in rows if row.status == "failed")
