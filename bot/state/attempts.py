"""Attempts: how often a variant failed, how it ended the last time, and when it is tried again. Knows no clock."""

import datetime as dt
from dataclasses import dataclass, replace

from bot.errors import (
    AlteredDownloadError,
    ConfigError,
    ConflictError,
    DiskFullError,
    DiskTooSmallError,
    HubRefusedError,
    HubUnreachableError,
    Interrupted,
    NoCompilerError,
    NotReadyError,
    TokenError,
)
from bot.records.artifacts import Failure, Json, Record

BEGUN = "begun"  #: the step of an attempt that is not over, as far as is known

_LONGEST_TEXT = 2000  # characters of a message
# Hours before the second attempt, the third …: a day's outage of something upstream is outlasted by three attempts.
_PAUSES = (1, 24, 72, 168)

# What says nothing about the variant: the Hub, the token or this machine is at fault, and may do better next time.
_OF_THE_MOMENT = frozenset(
    error.exit_code
    for error in (
        AlteredDownloadError,
        ConfigError,
        ConflictError,
        DiskFullError,
        DiskTooSmallError,
        HubRefusedError,
        HubUnreachableError,
        Interrupted,
        NoCompilerError,
        NotReadyError,
        TokenError,
    )
)


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome(Record):
    """The end of an attempt: its time, step and cause, and the address of the run, where it has one."""

    last: str
    step: str
    message: str
    hint: str
    exit_code: int
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Attempted(Record):
    """A variant that failed: how often, how it ended the last time, and when it is tried again (UTC, ISO 8601).

    ``next`` is None for one that waits for a person. ``step`` is "begun" while it is being built, and where a process
    ended without a word. Then ``former`` is how the attempt before ended, if it did.
    """

    release: str  # repo_id@commit
    variant: str
    attempts: int
    last: str
    next: str | None
    step: str
    message: str
    hint: str
    exit_code: int
    run: str = ""  # the address of the run that it failed in, where it has one
    former: AttemptOutcome | None = None

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values; without what is not there, so that a bot of before can read it."""
        return {key: value for key, value in super().to_json().items() if key != "former" or value is not None}

    @property
    def ended(self) -> AttemptOutcome | None:
        """The outcome of the last attempt that has a known one."""
        if self.step == BEGUN:
            return self.former
        return AttemptOutcome(
            last=self.last,
            step=self.step,
            message=self.message,
            hint=self.hint,
            exit_code=self.exit_code,
            run=self.run,
        )

    @property
    def words(self) -> str:
        """Its description: the message, and how the attempt before ended, where this one says nothing."""
        if self.former is None:
            return self.message
        return f"{self.message}; the time before, at {self.former.step}: {self.former.message}"

    @property
    def repo_id(self) -> str:
        """The source's repo."""
        return self.release.partition("@")[0]


def outcome(begun: Attempted, failure: Failure, now: dt.datetime, most: int) -> Attempted | None:
    """Return an attempt as it failed, None for a first one that says nothing about the variant.

    A later one that says nothing leaves what is known of those before as it is.
    """
    of_the_moment = failure.exit_code in _OF_THE_MOMENT
    count = begun.attempts - of_the_moment
    if not count:
        return None
    due = None if count >= most else iso_time(now + _pause(count))
    if of_the_moment and begun.former is not None:
        return replace(before_begun(begun), next=due)
    return replace(
        begun,
        attempts=count,
        last=iso_time(now),
        next=due,
        step=failure.step,
        message=truncated(failure.message),
        hint=truncated(failure.hint),
        exit_code=failure.exit_code,
        former=None,
    )


def before_begun(begun: Attempted) -> Attempted:
    """Return what was known before an attempt was begun. A memory of an older bot does not tell how that ended."""
    known = begun.former
    if known is None:
        return replace(begun, attempts=begun.attempts - 1)
    return replace(
        begun,
        attempts=begun.attempts - 1,
        last=known.last,
        step=known.step,
        message=known.message,
        hint=known.hint,
        exit_code=known.exit_code,
        run=known.run,
        former=None,
    )


def truncated(text: str) -> str:
    """Return a text as it is kept: a memory that is too large would not be read any more."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _pause(attempts: int) -> dt.timedelta:
    return dt.timedelta(hours=_PAUSES[min(attempts, len(_PAUSES)) - 1])


def iso_time(moment: dt.datetime) -> str:
    """Return a moment as it is kept."""
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")
