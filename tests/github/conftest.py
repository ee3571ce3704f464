"""A GitHub on this machine."""

import time
from collections.abc import Iterator

import pytest

from bot.github import Repository, client, open_repository
from tests.github_server import GitHub, serve


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pauses between writes, which are there for GitHub's sake."""
    monkeypatch.setattr(client, "_PAUSE", 0.0)


@pytest.fixture
def server() -> Iterator[GitHub]:
    """Return a running server with the repository o/r."""
    with serve() as running:
        yield running


@pytest.fixture
def repository(server: GitHub) -> Repository:
    """Return o/r, as the bot sees it."""
    return open_repository("o/r", server.environ)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have waiting take no time. Gives the seconds that were asked for."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited
