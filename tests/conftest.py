"""What many tests share."""

import os

os.environ["HF_HUB_DISABLE_XET"] = "1"  # read when huggingface_hub is imported: the embedded Hub has no Xet storage
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bot import format_folders
from bot.formats import recipes
from bot.hub import retry
from bot.localhub import RunningHub, serve

# A shell that starts a run in the background has it ignore Ctrl-C, and all that it starts too; some tests send one.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.in_memory",  # first: before anything asks where temporary files are
    "tests.browsing",
    "tests.toolchain_fixtures",
    "tests.hub.fixtures",
    "tests.worker.fixtures",
]

_DEAR = ("toolchain", "browser", "process", "server")  #: marks of tests, by what one of them takes
_SERVERS = {"hub", "server"}  # the fixtures that run an embedded Hub, and one that plays GitHub

settings.register_profile("phi-bot", deadline=None)  # how long an example takes depends on the machine's other work
settings.load_profile("phi-bot")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, and put modules with dear tests first: at the end no core waits for a long test.

    A server takes a fraction of a second, and there are a thousand of them. A module stays together, for its fixtures.
    """
    place: dict[Path, int] = {}
    for item in items:
        if _SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
        kind = next((n for n, mark in enumerate(_DEAR) if item.get_closest_marker(mark)), len(_DEAR))
        place[item.path] = min(kind, place.get(item.path, kind))
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(autouse=True)
def _no_hub_known() -> None:
    """Begin as a process does: a Hub of the test before, at the same port, is none that is waited for."""
    retry.forget_all()


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out waiting for the disk: it guards against a power cut alone, and takes most of the time of a test."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def another_text(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A function that changes the text which importance matrices are measured on, until the test ends."""

    def change() -> None:
        monkeypatch.setattr("bot.texts.training", lambda: ["other"])
        recipes.text_digest.cache_clear()

    yield change
    recipes.text_digest.cache_clear()


@pytest.fixture
def nothing_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every format's files proven on their own devices alone, as one has it that names none to stand in."""
    said = format_folders.on_device

    def own(name: str, device: str) -> dict[str, object]:
        return {key: value for key, value in said(name, device).items() if key != "proven_on"}

    monkeypatch.setattr(format_folders, "on_device", own)


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """An embedded Hub that answers, over an empty folder; ``hub.token`` may write everywhere."""
    with serve(tmp_path / "hub") as running:
        yield running
