"""Files for GPUs and browsers: their graph is proven on a processor, where no such device is."""

import shutil
from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.proving.build_job import build_job
from bot.proving.verify_artifact import Verifying
from bot.records.artifacts import Variant
from bot.records.evidence import CHECKS
from bot.steps.plan import plan_releases
from bot.steps.watch import Reader
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.contexts import NOBODY, context_of
from tests.worker.running import Built, failures, measure, rows, run_python
from tests.worker.stated import compared

pytestmark = pytest.mark.toolchain

INT4, CUDA, TENSORRT = (catalogue.all_variants()[f"onnx/{name}-int4"] for name in ("cpu", "cuda", "trtrtx"))
FOR_DEVICES = [
    pytest.param(v, id=v.short_name, marks=[] if v == CUDA else pytest.mark.sweep)
    for v in rows("onnx")
    if v.target != "cpu"
]
EDIT = """
import sys, onnx
path, code = sys.argv[1:]
model = onnx.load(path, load_external_data=False)
nodes = {n.name.removeprefix("/model/"): n for n in model.graph.node}
exec(code)
onnx.save(model, path)
"""
EPSILON = """
constant = next(n for n in model.graph.node if n.output[0] == "/model/constants/FLOAT/1e-05")
constant.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(constant.attribute[0].t) * 10))
"""
FIRST = "nodes['layers.0/input_layernorm/LayerNorm/{}']"


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


def edited(toolchain: Toolchain, folder: Path, copy: Path, code: str) -> Path:
    """Return a copy of a model in whose graph some code has changed something."""
    shutil.copytree(folder, copy)
    run_python(toolchain, EDIT, copy / "model.onnx", code)
    return copy


@pytest.mark.usefixtures("warm_toolchains")
@pytest.mark.parametrize("variant", FOR_DEVICES)
def test_a_graph_passes_every_check_on_a_processor(
    onnx_files: Built, toolchain: Toolchain, sample: Path, reference: Path, tmp_path: Path, variant: Variant
) -> None:
    found = measure(toolchain, onnx_files.folders[variant.name], variant, sample, reference, tmp_path / "log")
    assert failures(found) == {}
    assert [c["name"] for c in found["checks"]] == list(CHECKS)
    assert found["device"] == "cpu"


@pytest.mark.usefixtures("warm_toolchains")
def test_each_graph_is_read_past_the_switch_but_one_whose_kernels_choose_there(sample: Path, tmp_path: Path) -> None:
    (job,) = plan_releases([Reader(hub=NOBODY).named(str(sample))], [INT4, CUDA, TENSORRT]).jobs
    context = context_of(workspace=tmp_path / "work", threads=2)
    artifacts = build_job(job, context).artifacts
    with Verifying(artifacts, context) as verifying:
        found = {a.build.variant.name: verifying.verify(a).evidence for a in artifacts}
    said = {name: (e.device, e.deep, [d.side for d in e.distances]) for name, e in found.items() if e}
    assert said == {
        INT4.name: ("", True, ["short", "long"]),
        CUDA.name: ("cpu", True, ["short", "long"]),
        TENSORRT.name: ("cpu", False, ["short"]),
    }


def test_an_operation_that_only_the_device_has_is_a_failed_check(
    onnx_files: Built, toolchain: Toolchain, sample: Path, reference: Path, tmp_path: Path
) -> None:
    code = "nodes['layers.0/attn/GroupQueryAttention'].op_type = 'PagedAttention'"
    files = edited(toolchain, onnx_files.folders[CUDA.name], tmp_path / "model", code)
    found = measure(toolchain, files, CUDA, sample, reference, tmp_path / "log")
    assert (
        "a graph for cuda that onnxruntime cannot run on processors, where it is proven here"
        in failures(found)["loading"]
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (EPSILON, "the epsilon of norms, layers.0/input_layernorm, is 0.0001, the source's 1e-05"),
        (f"{FIRST.format('Pow')}.input[1] = '/model/constants/FLOAT/1'", "stated at 8 places, the source has 9"),
        (f"{FIRST.format('Div')}.input[0] = '/model/constants/FLOAT/2'", "stated at 8 places, the source has 9"),
        (f"{FIRST.format('Sqrt')}.op_type = 'Abs'", "stated at 8 places, the source has 9"),
    ],
)
def test_a_norm_of_elementary_nodes_that_computes_something_else_is_none(
    onnx_files: Built, toolchain: Toolchain, sample: Path, tmp_path: Path, code: str, said: str
) -> None:
    files = edited(toolchain, onnx_files.folders[TENSORRT.name], tmp_path / "model", code)
    assert said in compared(toolchain, files, TENSORRT, sample)
