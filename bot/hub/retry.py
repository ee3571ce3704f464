"""Repeating requests to a Hub: the number of attempts and the pauses between them, one policy for every request.

``bot.hub.transport`` applies it to each request that may simply be made again. Requests that change something, and
would change it twice, go through ``once``.
"""

import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from bot.hub.errors import is_nonsense, is_passing
from bot.hub.session import forget_connections

T = TypeVar("T")

REPEATS = 6  # of a request to a Hub that falters: with the pauses below, about half a minute
REFUSED_REPEATS = 3  # of one to an address where nothing listens, and nothing has answered before in this process
AWAY = 600.0  # seconds of pauses for a Hub that has answered in this process, and is away: it starts anew, or moves
LONGEST_ASKED = 330.0  # seconds; the Hub counts requests in windows of five minutes
TOTAL = 900.0  # seconds after which no other attempt is begun

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_WORTH_SAYING = 5.0  # seconds: a person who sees nothing happen for longer wonders
_RATE_LIMIT = re.compile(r'"[^"]*"\s*;\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)')

_SAID_AGAIN = 10.0  # seconds: several threads wait for the same Hub

_hurried = False  # whether nobody is waited for who is away
_listeners: list[Callable[[str], None]] = []
_there: set[str] = set()  # the Hubs that have answered, by their origins
_said: dict[str, float] = {}  # when it was last said of one that it is away, on the monotonic clock


def exactly_once(call: Callable[[], T], landed: Callable[[], T | None]) -> T:
    """Change something on a Hub exactly once, although the answer to a request may be lost; return what it made.

    ``call`` sends the request. When it fails in a way that leaves open whether the Hub did it (no answer in time, a
    broken connection, a status such as 502, an answer that makes no sense), ``landed`` looks: it returns what ``call``
    would have returned, or None if the Hub surely did not do it; then it is sent again after a pause. An error of
    ``landed`` is raised, for then nobody knows. Every other failure of ``call`` is raised as it is, and so is the last.
    """
    attempt = 0
    while True:
        try:
            return call()
        except Exception as error:
            if not is_passing(error) and not is_nonsense(error):
                raise
            forget_connections()  # the next answer on this one may belong to the request that failed
            made = landed()
            if made is not None:
                return made
            if attempt == REPEATS:
                raise
        wait(pause(attempt), "The Hub has problems")
        attempt += 1


def pause(attempt: int) -> float:
    """Return how many seconds to wait after so many attempts that failed before this one.

    Anything between nothing and a ceiling that doubles, so that many bots that failed together do not return together.
    """
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))  # noqa: S311 - no secret


def wait(seconds: float, why: str) -> None:
    """Wait, and say so where it takes long."""
    if seconds >= _WORTH_SAYING:
        for say in _listeners:
            say(f"{why}: waiting {math.ceil(seconds)} s")
    if seconds > 0:
        time.sleep(seconds)


def note_answer(origin: str) -> None:
    """Note that a Hub is there: when it is away later, it is waited for."""
    _there.add(origin)


def has_answered(origin: str) -> bool:
    """Say whether a Hub has answered in this process, was not given up since, and may be waited for."""
    return origin in _there and not _hurried


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """Wait for no Hub that is away until the block ends: who asks wants to know what answers now."""
    global _hurried  # noqa: PLW0603 - a setting of the process, as what is known of its Hubs
    _hurried = True
    try:
        yield
    finally:
        _hurried = False


def give_up(origin: str) -> None:
    """Note that a Hub was waited for in vain: the requests behind this one end quickly, until it answers again."""
    _there.discard(origin)


def forget_all() -> None:
    """Know nothing of any Hub, as at the beginning of a process."""
    _there.clear()
    _said.clear()


def wait_for(origin: str, seconds: float, waited: float) -> None:
    """Wait for a Hub that is away, and say so where it takes long. It was ``waited`` for so many seconds before."""
    now = time.monotonic()
    if waited + seconds >= _WORTH_SAYING and now - _said.get(origin, -_SAID_AGAIN) >= _SAID_AGAIN:
        _said[origin] = now
        left = max(1, math.ceil((AWAY - waited) / 60))
        for say in _listeners:
            say(f"{origin} cannot be reached: waiting for it, {left} min at most")
    if seconds > 0:
        time.sleep(seconds)


def say_waits(say: Callable[[str], None]) -> None:
    """From now on, have ``say`` print a line before each wait of more than some seconds."""
    _listeners[:] = [say]


def asked_to_wait(headers: Mapping[str, str], *, refused: bool = True) -> float:
    """Return the seconds that a Hub asks to wait before the next request: 0.0 if it does not ask.

    ``Retry-After`` counts with a refusal alone; ``RateLimit`` says that the next request would be refused.
    """
    limits = _RATE_LIMIT.findall(headers.get("ratelimit", ""))
    asked = [float(reset) for remaining, reset in limits if int(remaining) == 0]
    if refused:
        asked.append(_retry_after(headers.get("retry-after", "")))
    return max(asked, default=0.0)


def _retry_after(value: str) -> float:
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    at = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
