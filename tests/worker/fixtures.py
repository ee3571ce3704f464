"""What tests of several formats build from."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from benchmarks.checkpoints import SHAPES, make
from bot.progress import Silent
from bot.toolchains.install import ensure
from tests.toolchain_fixtures import compute_reference
from tests.worker import kinds
from tests.worker.running import Built, build, rows


@pytest.fixture(scope="session")
def kind_of_phi(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Returns the checkpoint of a kind (see kinds.py), and its reference: both to be read only."""

    @cache
    def made(kind: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(kind)
        source = kinds.make(kind, sample, ensure("reference", Silent()), folder / kind)
        compute_reference(source, folder / "reference")
        return source, folder / "reference"

    return made


@pytest.fixture(scope="session")
def large(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of Phi-3.5-mini at its true size, to be read only: 310 million parameters, in two files."""
    folder = tmp_path_factory.mktemp("large") / "source"
    return make(SHAPES["phi-3.5-mini"], sample, folder, layers=1, shard=400 * 10**6)


@pytest.fixture(scope="session")
def onnx_files(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Every ONNX row of the catalogue, built from the sample in one job: to be read only."""
    folder = tmp_path_factory.mktemp("onnx")
    return build(ensure("onnx", Silent()), sample, rows("onnx"), folder / "job", log=folder / "log")
