"""How an error of one variant becomes a record that a run goes on with."""

from collections.abc import Sequence
from typing import Literal

from bot.errors import IncompleteError, PhiBotError
from bot.records import Failure


def failure(
    release: str, variant: str, step: Literal["plan", "build", "verify", "stage", "publish"], error: PhiBotError
) -> Failure:
    """Return what is kept of an error."""
    return Failure(
        release=release,
        variant=variant,
        step=step,
        message=error.message,
        hint=error.hint,
        exit_code=error.exit_code,
    )


def exit_code(failures: Sequence[Failure], *, anything_done: bool) -> int:
    """Return the exit code of a run: 0 without failures; the failures' own where nothing came through and all share it.

    Any other mixture is IncompleteError's.
    """
    if not failures:
        return 0
    codes = {f.exit_code for f in failures}
    if len(codes) == 1 and not anything_done:
        return codes.pop()
    return IncompleteError.exit_code
