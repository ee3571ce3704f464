"""The bench is made once for all processes that test, and each one has a copy of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bench import Bench, make_bench, open_bench
from tests.shared import make_once
from tests.toolchain_fixtures import keep_warm


@pytest.fixture(scope="session")
def made_bench(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The folder of a bench that nobody works in."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "fsync", lambda handle: None)
            keep_warm(patched)
            make_bench(folder / "bench", sample)

    return make_once(tmp_path_factory, "faults", make) / "bench"


@pytest.fixture(scope="session")
def bench(made_bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench that nobody else works at."""
    folder = tmp_path_factory.mktemp("faults") / "bench"
    shutil.copytree(made_bench, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        with open_bench(folder) as opened:
            yield opened
