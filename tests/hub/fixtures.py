"""What the tests of the client share."""

import os
import time
from collections.abc import Iterator

import httpx2
import pytest

from bot.hub.client import Hub, connect
from bot.localhub import RunningHub
from tests.hub.faulty import Proxy, proxy
from tests.hub.issuer import CLAIMS, Issuer, issuer


@pytest.fixture
def without_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what guards the embedded Hub against a power cut: waiting for the disk is most of its time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def client(hub: RunningHub, without_syncing: None) -> Hub:
    """The client of an embedded Hub, with a token that may write everywhere."""
    return connect(hub.url, hub.token)


@pytest.fixture
def faulty(hub: RunningHub, without_syncing: None) -> Iterator[Proxy]:
    """A proxy in front of the embedded Hub that does as it is told."""
    with proxy(hub.url) as running:
        yield running


@pytest.fixture
def shaky(faulty: Proxy, hub: RunningHub) -> Hub:
    """The client of the embedded Hub as seen through ``faulty``."""
    return connect(faulty.url, hub.token)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pauses before another attempt, the library's own too; the attempts themselves are made."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


class Log:
    """A task that remembers what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int, str]] = []

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        """Remember."""
        self.seen.append((what, done, total, unit))


@pytest.fixture(scope="session")
def github_identity() -> Iterator[Issuer]:
    """A service that signs who a workflow is, as GitHub's does; its key takes a moment to make."""
    with issuer() as running:
        yield running


@pytest.fixture
def workflow(github_identity: Issuer, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """This process is a job of a workflow with `id-token: write`, and without any token of the Hub's."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_OIDC_ID_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in github_identity.environment().items():
        monkeypatch.setenv(name, value)
    github_identity.claims, github_identity.minted, github_identity.answer = dict(CLAIMS), 0, None
    return github_identity


def trust(hub: RunningHub, path: str, issuer: Issuer, **claims: str) -> None:
    """Let a repo (``owner/name``, ``datasets/owner/name``) trust the workflows that make these claims."""
    kind = "datasets" if path.startswith("datasets/") else "models"
    answer = httpx2.put(
        f"{hub.url}/api/{kind}/{path.removeprefix('datasets/')}/trusted-publishers",
        json={"publishers": [{"issuer": issuer.url, "claims": claims or {"repository": CLAIMS["repository"]}}]},
        headers={"Authorization": f"Bearer {hub.token}"},
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
