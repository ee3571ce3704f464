"""One world for all journeys of a session: the sample is released once, and published once."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from bot import catalogue
from bot.building.reference import digest
from bot.hub import client
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from bot.records.artifacts import Report
from bot.toolchains.install import ensure
from bot.workspace import Workspace
from tests.e2e.world import MODEL, World, make_world


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[RunningHub]:
    """An embedded Hub on which the sample checkpoint is a release of microsoft's."""
    with serve(tmp_path_factory.mktemp("released") / "hub") as running:
        files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
        hub = client.connect(running.url, running.token)
        with Silent().task("release") as task:
            hub.commit(MODEL, files=files, parent=None, message="Release", task=task)
        yield running


@pytest.fixture(scope="session")
def world(released: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of a publisher with nothing but a phi-bot.toml."""
    return make_world(released, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def published(world: World) -> Report:
    """What the main job said when it ran for the first time."""
    return world.run()


@pytest.fixture(scope="session")
def published_of(
    request: pytest.FixtureRequest, released: RunningHub, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Report, World]]:
    """Return what was published of a format, and in which world: of the default set, or of a row that was asked for."""

    @cache
    def of(name: str) -> tuple[Report, World]:
        if any(row.format == name for row in catalogue.select(["default"])):
            return request.getfixturevalue("published"), request.getfixturevalue("world")
        asking = make_world(released, tmp_path_factory.mktemp(name))
        return asking.run("--variants", catalogue.select([name])[0].name), asking

    return of


@pytest.fixture(scope="session")
def toolchain() -> Callable[[str], Path]:
    """Return the interpreter of a toolchain by its name."""
    return lambda name: ensure(name, Silent()).python


@pytest.fixture(scope="session")
def kept_reference(released: RunningHub) -> str:
    """Where in a working folder the reference of the release is kept."""
    release = client.connect(released.url, released.token).release(MODEL)
    return str(Workspace(root=Path("work")).reference(digest(release)))


@pytest.fixture
def new_world(released: RunningHub, few_windows: Path, kept_reference: str, tmp_path: Path) -> Callable[[str], World]:
    """Make a world whose namespace nobody published in, and whose working folder has a small reference alone."""

    def make(namespace: str) -> World:
        made = make_world(released, tmp_path / namespace)
        shutil.copytree(few_windows, made.folder / kept_reference, symlinks=True)
        config = made.folder / "phi-bot.toml"
        config.write_text(config.read_text().replace('"demo"', f'"{namespace}"'))
        return made

    return make
