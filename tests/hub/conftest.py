"""What the tests of the client share."""

import os
import time
from collections.abc import Iterator

import pytest

from bot.hub.client import Hub, connect
from bot.hub.local import RunningHub
from tests.hub.faulty import Proxy, proxy


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
