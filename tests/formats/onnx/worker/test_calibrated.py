"""ONNX, calibrated, beyond what tests/worker/test_calibrated.py holds of all formats: other rows, and other models."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import catalogue
from bot.formats.onnx.worker import calibrated, mix
from bot.formats.onnx.worker.calibrated import Levels
from bot.formats.recipes import with_calibration
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from bot.worker.solver import factor, solve
from bot.worker.weights import one_zero
from tests.controls.artifacts import change_at, next_nibble
from tests.formats.onnx.worker.test_lean import with_options
from tests.worker.running import Built, build, copy_of, run_python, solved_beside, wrong_weights
from tests.worker.test_solver import moments, weights

Array = Any

MIXED, GPU = (with_calibration(catalogue.all_variants()[f"onnx/{n}"]) for n in ("cpu-int4-mixed", "cuda-int4"))
ASYMMETRIC = with_calibration(with_options("asymmetric", is_symmetric="false"))
ROWS = (MIXED, GPU, ASYMMETRIC)
INT4 = with_calibration(catalogue.all_variants()["onnx/cpu-int4"])

LEVELS = {
    "4 bits": Levels(bits=4, block=32, zero_points=False),
    "4 bits with zero points": Levels(bits=4, block=32, zero_points=True),
    "8 bits": Levels(bits=8, block=32, zero_points=False),
    "8 bits with zero points": Levels(bits=8, block=32, zero_points=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_a_node_computes_what_the_solver_gave(levels: Levels, dtype: Any) -> None:
    """In whatever order it multiplies and subtracts, to the last bit."""
    rows = weights(6, 160)
    found = solve(rows, [factor(moments(160, 500))], levels.grid(dtype))
    codes, scales, *zeros = calibrated.arrays(found, levels, dtype)
    assert scales.dtype == dtype
    if levels.bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(6, 5, 32)
        zeros = [np.stack([z & 15, z >> 4], axis=-1).reshape(6, 6)[:, :5] for z in zeros]
    zero: Array = zeros[0].astype(np.float32)[..., None] if zeros else np.float32(1 << (levels.bits - 1))
    scale = scales.astype(np.float32)[..., None]
    for values in ((codes - zero) * scale, codes * scale - zero * scale):
        assert one_zero(values.reshape(6, 160)).tobytes() == one_zero(found.values).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_type_takes_the_bytes_that_a_node_has_of_it(dtype: Any) -> None:
    matrix = mix.Matrix(rows=6, columns=256, own=LEVELS["4 bits"], scales=np.dtype(dtype), looked_up=False)
    types = matrix.types()
    assert list(types) == ["int4-b32", "int4-b64", "int4-b128", "int8-b32", "int8-b64", "int8-b128"]
    for levels in types.values():
        found = solve(weights(6, 256), [factor(moments(256, 500))], levels.grid(dtype))
        assert matrix.measured(levels).size == sum(a.nbytes for a in calibrated.arrays(found, levels, dtype))


def test_some_matrices_have_fewer_types() -> None:
    looked_up = mix.Matrix(rows=6, columns=192, own=LEVELS["4 bits"], scales=np.dtype(np.float32), looked_up=True)
    assert list(looked_up.types()) == ["int4-b32", "int4-b64"]
    assert replace(looked_up, columns=200).types() == {}  # the builder pads its rows
    assert replace(looked_up, own=LEVELS["4 bits with zero points"]).types() == {}


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("onnx", Silent())


@pytest.fixture(scope="module")
def built(toolchain: Toolchain, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample's calibrated files of other rows: to be read only."""
    folder = tmp_path_factory.mktemp("calibrated")
    return build(toolchain, sample, ROWS, folder / "job", log=folder / "log")


@pytest.mark.toolchain
@pytest.mark.parametrize("variant", ROWS, ids=[v.short_name for v in ROWS])
def test_other_rows_hold_what_was_solved(
    toolchain: Toolchain, built: Built, sample: Path, tmp_path: Path, variant: Variant
) -> None:
    here = replace(variant, target="cpu")  # weights are compared without the device that a file is for
    assert wrong_weights(toolchain, built.folders[variant.name], here, sample, tmp_path / "weights") == ""


@pytest.mark.toolchain
def test_blocks_that_no_solver_parts_so_are_rounded_plainly(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    plain = with_options("wide", block_size="256")
    wide = with_calibration(with_options("wide-calibrated", block_size="256"))
    job = build(toolchain, sample, [plain, wide], tmp_path / "job", log=tmp_path / "log")
    assert job.files(wide.name) == job.files(plain.name)


@pytest.mark.toolchain
@pytest.mark.parametrize(
    "family", ["phi-4-mini", "phi-2"], ids=["the output is the embedding", "matrices have biases, and q, k and v"]
)
def test_other_models_are_calibrated_too(
    toolchain: Toolchain, sample_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    """An embedding that is looked up in the output matrix is rounded as that."""
    source = sample_of(family)
    job = build(toolchain, source, [INT4], tmp_path / "job", log=tmp_path / "log")
    assert job.notes == []
    assert wrong_weights(toolchain, job.folders[INT4.name], INT4, source, tmp_path / "weights") == ""


# Prints where the zero points of a matrix are in the file.
_ZERO_POINTS = """
import sys, onnx_ir
node = next(n for n in onnx_ir.load(sys.argv[1] + "/model.onnx").graph if "layers.1/attn/o_proj" in n.name)
print(node.inputs[3].const_value.offset)
"""


@pytest.mark.toolchain
def test_a_zero_point_that_is_off_by_one_is_found(
    toolchain: Toolchain, built: Built, sample: Path, tmp_path: Path
) -> None:
    artifact = copy_of(built.folders[ASYMMETRIC.name], tmp_path / "files")
    shutil.copyfile(solved_beside(built.folders[ASYMMETRIC.name]), solved_beside(artifact))
    place = int(run_python(toolchain, _ZERO_POINTS, artifact))
    change_at(artifact / "model.onnx.data", place + 7, "u1", next_nibble)
    found = wrong_weights(toolchain, artifact, ASYMMETRIC, sample, tmp_path / "weights")
    assert "model.layers.1.self_attn.o_proj.weight" in found
