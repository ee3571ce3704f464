"""What tests of several formats build from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.checkpoints import SHAPES, make
from bot.catalogue.families import DEFAULT
from bot.progress import Silent
from bot.records.artifacts import Json, Variant
from bot.toolchains.install import ensure
from tests.shared import make_once
from tests.toolchain_fixtures import compute_reference
from tests.worker import checkpoints, kinds
from tests.worker.running import Built, Measured, build_once, copy_of, keep_few_windows, measure, rows


@pytest.fixture(scope="session")
def drawn_of(sample_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from the name of a family to its sample with drawn weights: to be read only."""

    def made(family: str) -> Path:
        def make(folder: Path) -> None:
            checkpoints.drawn(copy_of(sample_of(family), folder / "source"))

        return make_once(tmp_path_factory, f"drawn {family}", make) / "source"

    return made


@pytest.fixture(scope="session")
def drawn(drawn_of: Callable[[str], Path]) -> Path:
    """The sample with weights that are the same on every processor: to be read only."""
    return drawn_of(DEFAULT)


@pytest.fixture(scope="session")
def kind_of_phi(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Returns the checkpoint of a kind (see kinds.py), and its reference: both to be read only."""

    def made(kind: str) -> tuple[Path, Path]:
        def make(folder: Path) -> None:
            source = kinds.make(kind, sample, ensure("reference", Silent()), folder / kind)
            compute_reference(source, folder / "reference")

        folder = make_once(tmp_path_factory, kind, make)
        return folder / kind, folder / "reference"

    return made


@pytest.fixture(scope="session")
def sample_or_kind(
    sample: Path, reference: Path, kind_of_phi: Callable[[str], tuple[Path, Path]]
) -> Callable[[str], tuple[Path, Path]]:
    """The same of the kinds and of the ``sample``."""
    return lambda kind: (sample, reference) if kind == "sample" else kind_of_phi(kind)


@pytest.fixture(scope="session")
def few_windows(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's reference with one window of each side, to be read only: for all that is not about distances."""
    return make_once(tmp_path_factory, "few windows", lambda folder: keep_few_windows(reference, folder))


@pytest.fixture(scope="session")
def large(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of Phi-3.5-mini at its true size, to be read only: 310 million parameters, in two files."""

    def made(folder: Path) -> None:
        make(SHAPES["phi-3.5-mini"], sample, folder / "source", layers=1, shard=400 * 10**6)

    return make_once(tmp_path_factory, "large", made) / "source"


@pytest.fixture(scope="session")
def gguf_files(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Every GGUF row of the catalogue, built from the sample in one job: to be read only."""
    return build_once(tmp_path_factory, ensure("gguf", Silent()), sample, rows("gguf"), "gguf")


@pytest.fixture(scope="session")
def onnx_files(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Every ONNX row of the catalogue, built from the sample in one job: to be read only."""
    return build_once(tmp_path_factory, ensure("onnx", Silent()), sample, rows("onnx"), "onnx")


@pytest.fixture(scope="session")
def openvino_files(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Every OpenVINO row of the catalogue, built from the sample in one job: to be read only."""
    return build_once(tmp_path_factory, ensure("openvino", Silent()), sample, rows("openvino"), "openvino")


@pytest.fixture(scope="session")
def mlx_files(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Every MLX row of the catalogue, built from the sample in one job: to be read only."""
    return build_once(tmp_path_factory, ensure("mlx", Silent()), sample, rows("mlx"), "mlx")


@pytest.fixture(scope="session")
def torch_files(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Every PyTorch row of the catalogue, built from the sample in one job: to be read only."""
    return build_once(tmp_path_factory, ensure("torch", Silent()), sample, rows("torch"), "torch")


@pytest.fixture(scope="session")
def measured_of(sample: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """What is measured on a row of the files above, once for all tests that look at it."""

    def measured(built: Built, variant: Variant) -> Json:
        def make(folder: Path) -> None:
            toolchain, artifact = ensure(variant.format, Silent()), built.folders[variant.name]
            found = measure(toolchain, artifact, variant, sample, reference, folder / "log")
            (folder / "measured.json").write_text(json.dumps(found))

        name = f"measured {variant.name}".replace("/", " ")
        return json.loads((make_once(tmp_path_factory, name, make) / "measured.json").read_text())

    return measured
