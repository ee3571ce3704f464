"""The memory that the reference, building and verifying take, on checkpoints of true width, under enforced limits.

It does not grow with the number of layers, so that one does. That the raw tools do not survive the limits of building
is seen in each format's own tests.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import bot
from benchmarks.checkpoints import SHAPES, Shape, make
from bot import catalogue
from bot.progress import Silent
from bot.records.tasks import VerifyTask
from bot.toolchains.install import ensure
from tests.formats.hooks import hooks
from tests.toolchain_fixtures import compute_reference
from tests.worker.limits import data_limit, wide
from tests.worker.running import build, run_python

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("cold_toolchains")]

GB = 10**9
HALF_AS_WIDE = replace(SHAPES["phi-3.5-mini"], hidden=1536, intermediate=4096, heads=16, key_value_heads=16)


@pytest.mark.parametrize(
    ("shape", "limit"),
    [
        pytest.param(HALF_AS_WIDE, 2 * GB, id="half as wide as phi-3.5-mini"),
        pytest.param(SHAPES["phi-3.5-mini"], 3 * GB, id="phi-3.5-mini", marks=pytest.mark.sweep),
        pytest.param(SHAPES["phi-4"], 4 * GB, id="phi-4", marks=pytest.mark.sweep),
    ],
)
def test_a_reference_keeps_to_its_limit(
    shape: Shape, limit: int, sample_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source = make(shape, sample_of(shape.family), tmp_path / "source", layers=1, sparse=True)
    with data_limit(limit):
        told = compute_reference(source, tmp_path / "out")
    assert told["peak_memory"] < limit


@pytest.mark.sweep
def test_a_reference_takes_no_more_memory_for_more_layers(sample_of: Callable[[str], Path], tmp_path: Path) -> None:
    def peak(layers: int) -> int:
        source = wide("phi-3.5-mini", sample_of("phi-3.5-mini"), tmp_path / f"{layers}", layers=layers)
        return int(compute_reference(source, tmp_path / f"{layers}-out")["peak_memory"])

    # Eight layers took up to 0.5 GB more than two, and all 32 no more than eight; six that are kept would be 1.4 GB.
    assert peak(8) < peak(2) + 0.7 * GB


@pytest.fixture(scope="session")
def phi_4(sample_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of Phi-4 at its true size, to be read only: 1.4 billion parameters. (OpenVINO asks what is zero.)"""
    return make(SHAPES["phi-4"], sample_of("phi-4"), tmp_path_factory.mktemp("wide") / "source", layers=1)


@pytest.mark.sweep
@pytest.mark.parametrize("variant", [n for n, v in catalogue.all_variants().items() if not v.options.get("imatrix")])
def test_every_row_of_phi_4s_width_keeps_to_the_limit_of_its_format(variant: str, phi_4: Path, tmp_path: Path) -> None:
    """Those with an importance matrix take what their neighbours take: it has a number for each column."""
    row = catalogue.all_variants()[variant]
    built = build(ensure(row.format, Silent()), phi_4, [row], tmp_path / "job", log=tmp_path / "log")
    assert not any(note.startswith("Stock path") for note in built.notes)
    (said,) = (e for e in built.events if e["event"] == "built")
    assert said["peak_memory"] < hooks(row.format).most_memory


# Prints the largest memory that comparing all weights of an artifact took.
COMPARE = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.records.tasks import VerifyTask
from bot.worker import weights
from bot.worker.harness import peak_memory
from bot.worker.tensors import Tensors
task = VerifyTask.from_json(json.loads(sys.argv[2]))
stored = importlib.import_module(sys.argv[3]).stored
weights.compare(stored(task), Tensors(Path(task.source)), tied=True)
print(peak_memory())
"""


@pytest.mark.parametrize(
    ("variant", "module", "limit"),
    [
        ("gguf/q4_k_m", "weights", 0.5 * GB),
        pytest.param("onnx/cpu-int4", "weights", 0.8 * GB, marks=pytest.mark.sweep),
        pytest.param("openvino/int4", "weights", 0.8 * GB, marks=pytest.mark.sweep),
        pytest.param("mlx/4bit", "artifact", 0.8 * GB, marks=pytest.mark.sweep),
    ],
)
def test_comparing_weights_takes_little_memory_with_a_vocabulary_of_200064(
    variant: str, module: str, limit: int, sample_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """The embedding alone takes 2.5 GB in float32."""
    row = catalogue.all_variants()[variant]
    toolchain = ensure(row.format, Silent())
    source = wide("phi-4-mini", sample_of("phi-4-mini"), tmp_path / "source")
    built = build(toolchain, source, [row], tmp_path / "job", log=tmp_path / "log")
    task = VerifyTask(artifact=str(built.folders[variant]), variant=row, source=str(source), reference="", threads=2)
    root = Path(bot.__file__).parent.parent
    module = f"bot.formats.{row.format}.worker.{module}"
    with data_limit(GB):
        peak = int(run_python(toolchain, COMPARE, root, json.dumps(task.to_json()), module))
    assert peak < limit
