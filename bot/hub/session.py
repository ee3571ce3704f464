"""huggingface_hub, imported late (it is slow to import) and set up once: time-outs, silence, and no telemetry."""

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    import httpx2
    from huggingface_hub import HfApi

HUGGING_FACE = "https://huggingface.co"

_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 120.0  # completing a large multipart upload takes the storage behind the Hub a minute


def api_of(endpoint: str, token: str | None) -> "HfApi":
    """Return the library's client of one Hub.

    Without a token, the login of this machine is used where it belongs: at huggingface.co, or at the endpoint that the
    person set as HF_ENDPOINT. Any other Hub gets what HF_TOKEN holds, or nothing.
    """
    _set_up()
    from huggingface_hub import HfApi, constants

    import bot

    if endpoint != HUGGING_FACE:
        # Only that Hub has Xet. The setting is one of the process; without Xet, that Hub works too, more slowly.
        constants.HF_HUB_DISABLE_XET = True
    use: str | bool | None = token
    if token is None and endpoint not in (HUGGING_FACE, os.environ.get("HF_ENDPOINT", "").rstrip("/")):
        use = os.environ.get("HF_TOKEN", "").strip() or False
    return HfApi(endpoint=endpoint, token=use, library_name="phi-bot", library_version=bot.__version__)


def renewing_api(endpoint: str, token: Callable[[], str]) -> "HfApi":
    """Return a client that asks for its token at every request: an upload may take longer than a token is good for."""
    plain = api_of(endpoint, None)
    return _renewing()(token, endpoint, plain.library_name, plain.library_version)


@cache
def _renewing() -> "Callable[[Callable[[], str], str, str | None, str | None], HfApi]":
    from huggingface_hub import HfApi

    class RenewingApi(HfApi):
        def __init__(self, current: Callable[[], str], endpoint: str, name: str | None, version: str | None) -> None:
            self._current = current
            super().__init__(endpoint, library_name=name, library_version=version)

        @property
        def token(self) -> str:
            return self._current()

        @token.setter
        def token(self, value: object) -> None:
            """Take nothing: the library sets what it was given, which is none."""

    return RenewingApi


def headers_of(api: "HfApi") -> dict[str, str]:
    """Return the headers of a request that is made past the client: who asks, with the client's token."""
    from huggingface_hub import get_token

    token = get_token() if api.token is None else api.token
    return {"user-agent": f"{api.library_name}/{api.library_version}"} | (
        {"authorization": f"Bearer {token}"} if token else {}
    )


def forget_connections() -> None:
    """Close all connections: an answer that is still to come on one would be taken for that to a later request."""
    from huggingface_hub import close_session

    close_session()


@cache
def _set_up() -> None:
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils.tqdm import disable_progress_bars

    constants.HF_HUB_DISABLE_TELEMETRY = True
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are not for a person
    set_client_factory(_client)


def _client() -> "httpx2.Client":
    """Return the HTTP client for all requests; the library's own has no time-outs, and little patience."""
    import httpx2

    from bot.hub.transport import PatientClient

    return PatientClient(
        event_hooks={"request": [_refuse_offline]},
        follow_redirects=True,  # drops the token when it leaves the host
        timeout=httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS, pool=None),
        verify=_certificates(),
        mounts={f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")},  # past any proxy
    )


@cache
def _certificates() -> "ssl.SSLContext":
    """Return the authorities that are trusted: reading their file takes as long as ten requests."""
    import httpx2

    return httpx2.create_ssl_context()


def _refuse_offline(request: "httpx2.Request") -> None:
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import OfflineModeIsEnabled

    if is_offline_mode():
        raise OfflineModeIsEnabled(f"no request to {request.url.host}")
