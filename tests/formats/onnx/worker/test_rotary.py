"""The rotary embeddings that an ONNX graph carries: read from every row's graph, whatever device it is for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.records.tasks import VerifyTask
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.running import Built, build, copy_of, rows, run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parent.parent
INT4, DML = (catalogue.all_variants()[f"onnx/{name}"] for name in ("cpu-int4", "dml-int4"))

COMPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.records.tasks import VerifyTask
from bot.worker import rotary
from bot.formats.onnx.worker import rotary as onnx_rotary
task = VerifyTask.from_json(json.loads(sys.argv[2]))
config = json.loads((Path(task.source) / "config.json").read_text())
try:
    print(rotary.compare(onnx_rotary.rotary(task), rotary.of_config(config)))
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


def compared(toolchain: Toolchain, folder: Path, source: Path) -> str:
    task = VerifyTask(artifact=str(folder), variant=INT4, source=str(source), reference="", threads=2)
    return run_python(toolchain, COMPARE, ROOT, json.dumps(task.to_json())).strip()


@pytest.mark.parametrize("variant", rows("onnx"), ids=lambda v: v.short_name)
def test_every_row_turns_as_its_source_does_on_both_sides_of_the_switch(
    onnx_files: Built, toolchain: Toolchain, sample: Path, variant: Variant
) -> None:
    found = compared(toolchain, onnx_files.folders[variant.name], sample)
    assert found == "32 angles on both sides of the LongRoPE switch are the source's"


@pytest.mark.parametrize("variant", [INT4, DML], ids=lambda v: v.short_name)
@pytest.mark.parametrize(("kind", "angles"), [("phi-4", 32), ("phi-2", 16)])
def test_a_model_without_a_switch_has_one_set_of_angles(
    toolchain: Toolchain,
    kind_of_phi: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    kind: str,
    angles: int,
    variant: Variant,
) -> None:
    source, _ = kind_of_phi(kind)
    result = build(toolchain, source, [variant], tmp_path / "job", log=tmp_path / "log")
    assert compared(toolchain, result.folders[variant.name], source) == f"{angles} angles are the source's"


@pytest.mark.parametrize("variant", [INT4, DML], ids=lambda v: v.short_name)
def test_factors_of_another_model_are_found(
    onnx_files: Built, toolchain: Toolchain, sample: Path, tmp_path: Path, variant: Variant
) -> None:
    source = copy_of(sample, tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["rope_scaling"]["long_factor"][5] *= 1.5
    (source / "config.json").chmod(0o644)
    (source / "config.json").write_text(json.dumps(config))
    found = compared(toolchain, onnx_files.folders[variant.name], source)
    assert found.startswith("of the angles past the LongRoPE switch, number 5 is ")
