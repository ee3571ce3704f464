"""Work that goes on at the same time, in threads: what one does holds up no other, and Ctrl-C ends all of it."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from bot.system import machine

T = TypeVar("T")

_OF_MACHINE = 0.75  # of all memory, for workers at the same time

_LOOK_SECONDS = 0.5  # Windows hears of Ctrl-C in between
_STOP_SECONDS = 15.0


def memory() -> float:
    """Return the bytes that workers which run at the same time may take together."""
    return _OF_MACHINE * machine.memory()


def run_together(work: Sequence[Callable[[], T]], stop: Callable[[], None]) -> list[T]:
    """Return what each piece of work returns. On Ctrl-C ``stop`` is called, which makes them end soon.

    Raises the first error of the first one that raises any, after all have ended.
    """
    found: list[T | None] = [None] * len(work)
    errors: list[BaseException | None] = [None] * len(work)
    over = [threading.Event() for _ in work]

    def run(number: int) -> None:
        try:
            found[number] = work[number]()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors[number] = error
        finally:
            over[number].set()

    for number in range(len(work)):  # daemons: one that waits for a lock of another process keeps nobody here
        threading.Thread(target=run, args=(number,), name="together", daemon=True).start()
    try:
        for one in over:  # not joined: after Ctrl-C in a join, Python 3.11 takes the thread for one that has ended
            while not one.wait(_LOOK_SECONDS):
                pass
    except BaseException:
        stop()
        for one in over:
            one.wait(_STOP_SECONDS)
        raise
    for error in errors:
        if error is not None:
            raise error
    return found  # type: ignore[return-value]
