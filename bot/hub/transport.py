"""The HTTP client behind huggingface_hub, with patience: it makes a request again that may be made again."""

import json
import re
import threading
import time
from typing import Any

import httpx2
from huggingface_hub import hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError

from bot.errors import HubRefusedError, PhiBotError
from bot.hub import retry
from bot.hub.errors import PASSING, translate

# POSTs that only ask, or that a second one does not change. Whoever makes a repo twice is told that it is there.
_ASKING = re.compile(
    r"/api/(?:[a-z]+/.+/(?:preupload|paths-info)/|[a-z]+/.+/lfs-files/duplicate$|validate-yaml$|repos/create$)"
    r"|\.git/info/lfs/(?:objects/)?(?:batch|verify)$"
)
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_BUSY = b"another conflicting operation is in progress"  # of this account; the library would ask again without a pause
_GATEWAY = frozenset({502, 503, 504})  # what stands before a Hub says that it is not there
_NO_CONNECTION = (httpx2.ConnectError, httpx2.ConnectTimeout)
_PASSING = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


class PatientClient(httpx2.Client):
    """Follows ``bot.hub.retry``. When that is at its end, it raises errors of ours, which nobody tries again.

    A Hub that has answered before in this process is waited for when it is away: nothing listens where it was, or what
    stands before it says so. One that never has is given up within seconds: the address is wrong, or the network down.

    Not made again here, and left to those who can tell what became of it: a request that changes something (see
    ``patience.once``), and a body that is a stream (the library winds it back). An answer whose body breaks while it
    is read as a stream is taken up again by the library, where it broke.
    """

    def __init__(self, *, timeout: httpx2.Timeout, **options: Any) -> None:
        super().__init__(timeout=timeout, **options)
        self._not_before: dict[str, float] = {}  # by origin, on the monotonic clock
        self._lock = threading.Lock()

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request, as often as it takes. Raises HubUnreachableError or HubRefusedError, or as httpx2 does."""
        self._set_timeouts(request)
        origin, deadline = _origin(request), time.monotonic() + retry.TOTAL
        attempt, waited = 0, 0.0
        while True:
            self._await_turn(request)
            away = False
            try:
                response = super().send(request, **options)
                _require_json(response)
            except _PASSING as error:
                if not (isinstance(error, _NO_CONNECTION) or _may_repeat(request)):
                    raise
                away = isinstance(error, _NO_CONNECTION) and retry.has_answered(origin)
                limit = retry.REFUSED_REPEATS if isinstance(error, _NO_CONNECTION) else retry.REPEATS
                if (waited >= retry.AWAY if away else attempt >= limit) or time.monotonic() > deadline:
                    retry.give_up(origin)
                    raise _ours(error, request) from error
            else:
                asked = self._heed(response)
                if not _is_passing(response):
                    retry.note_answer(origin)
                    return response
                if asked > retry.LONGEST_ASKED:
                    response.close()
                    raise _too_long(response, asked)
                if not (_may_repeat(request) or (response.status_code == 429 and _can_replay(request))):
                    return response
                away = response.status_code in _GATEWAY and retry.has_answered(origin)
                if (waited >= retry.AWAY if away else attempt >= retry.REPEATS) or time.monotonic() > deadline:
                    if away:
                        retry.give_up(origin)
                    raise _refusal(response)
                response.close()
            seconds = retry.pause(attempt)
            if away:
                retry.wait_for(origin, seconds, waited)
                waited += seconds
            else:
                retry.wait(seconds, f"{origin} falters")
            attempt += 1

    def _set_timeouts(self, request: httpx2.Request) -> None:
        """Give a request the client's time-outs where it has none: the library switches them off for many calls."""
        own = {k: v for k, v in request.extensions.get("timeout", {}).items() if v is not None}
        request.extensions = {**request.extensions, "timeout": self.timeout.as_dict() | own}

    def _await_turn(self, request: httpx2.Request) -> None:
        with self._lock:
            seconds = self._not_before.get(_origin(request), 0.0) - time.monotonic()
        if seconds > 0:
            retry.wait(seconds + retry.pause(0), f"{_origin(request)} asks to slow down")

    def _heed(self, response: httpx2.Response) -> float:
        """Note what the Hub asks of the next request to it, and return the seconds."""
        asked = retry.asked_to_wait(response.headers, refused=_is_passing(response))
        if 0 < asked <= retry.LONGEST_ASKED:
            with self._lock:
                self._not_before[_origin(response.request)] = time.monotonic() + asked
        return asked


def _can_replay(request: httpx2.Request) -> bool:
    return isinstance(request.stream, httpx2.ByteStream)


def _may_repeat(request: httpx2.Request) -> bool:
    harmless = request.method in _IDEMPOTENT or _ASKING.search(request.url.path) is not None
    return harmless and _can_replay(request)


def _is_passing(response: httpx2.Response) -> bool:
    if response.status_code == 409 and response.is_stream_consumed:
        return _BUSY in response.content
    return response.status_code in PASSING


def _require_json(response: httpx2.Response) -> None:
    """Raise RemoteProtocolError for an answer that says it is JSON and is none: it was cut, or is not from the Hub."""
    said = response.headers.get("content-type", "").partition(";")[0]
    if not (response.is_success and said == "application/json" and response.is_stream_consumed and response.content):
        return
    try:
        json.loads(response.content)
    except ValueError as error:
        raise httpx2.RemoteProtocolError("the answer is cut off, or not JSON", request=response.request) from error


def _refusal(response: httpx2.Response) -> PhiBotError:
    try:
        hf_raise_for_status(response)  # reads the body, which says why
    except HfHubHTTPError as error:
        ours = _ours(error, response.request)
        ours.__cause__ = error
        return ours
    raise AssertionError(response.status_code)


def _ours(error: Exception, request: httpx2.Request) -> PhiBotError:
    ours = translate(error, _origin(request))
    assert ours is not None  # noqa: S101 - all of these are known there
    return ours


def _too_long(response: httpx2.Response, seconds: float) -> HubRefusedError:
    return HubRefusedError(
        f"{_origin(response.request)} asks to wait {seconds:.0f} seconds (status {response.status_code})",
        hint=f"Run the same command again in {seconds / 60:.0f} minutes: work that is done by then is not repeated.",
    )


def _origin(request: httpx2.Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"
