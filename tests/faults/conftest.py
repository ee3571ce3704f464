"""The bench is made once for all processes that test, and each one has a copy of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults.bench import Bench, make_bench, open_bench


@pytest.fixture(scope="session")
def made_bench(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The folder of a bench that nobody works in."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "bench"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            making = base / "bench-in-the-making"
            shutil.rmtree(making, ignore_errors=True)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(os, "fsync", lambda handle: None)
                make_bench(making, sample)
            making.rename(folder)
    return folder


@pytest.fixture(scope="session")
def bench(made_bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench that nobody else works at."""
    folder = tmp_path_factory.mktemp("faults") / "bench"
    shutil.copytree(made_bench, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        with open_bench(folder) as opened:
            yield opened
