"""The real client, and one for requests that it would never make."""

import http.client
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi

from bot.localhub import Grant, RunningHub


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    """The Hub's own client, with the owner's token."""
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def client(hub: RunningHub) -> Callable[[Grant], HfApi]:
    """A client with a token of its own for each grant."""

    def make(grant: Grant) -> HfApi:
        return HfApi(endpoint=hub.url, token=hub.hub.tokens.make(grant.name, grant.scope, grant.namespaces))

    return make


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server said, to the letter."""

    status: int
    headers: dict[str, str]
    body: bytes


Ask = Callable[..., Answer]


@pytest.fixture
def ask(hub: RunningHub) -> Ask:
    """Make any request: ``ask("GET", "/", headers={…}, body=b"…")``. Headers come back with lower-case names."""
    port = urlsplit(hub.url).port

    def send(
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        token: str | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        auth = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body=body, headers={**auth, **(headers or {})})
        answer = connection.getresponse()
        found = Answer(status=answer.status, headers={k.lower(): v for k, v in answer.getheaders()}, body=answer.read())
        connection.close()
        return found

    return send
