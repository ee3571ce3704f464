"""Weights inside an OpenVINO model: those of the source pass, and a fault in the smallest part of them is named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.tasks import VerifyTask
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.running import Built, build, run_python

pytestmark = pytest.mark.toolchain

INT4, FP16, FP32 = (catalogue.all_variants()[f"openvino/{p}"] for p in ("int4", "fp16", "fp32"))
LAYER = "self.model.layers.{}."
EMBEDDING = "self.model.embed_tokens"


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("openvino", Silent())


@pytest.fixture(scope="module")
def built(openvino_files: Built) -> Built:
    return openvino_files


def compare(toolchain: Toolchain, artifact: Path, source: Path) -> str:
    """Say what comparing the weights of an artifact with the source's says."""
    code = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(Path(bot.__file__).parent.parent)!r})
from bot.records.tasks import VerifyTask
from bot.formats.openvino.worker.weights import stored
from bot.worker.tensors import Tensors
from bot.worker.weights import UnfaithfulError, compare
task = VerifyTask.from_json(json.loads(sys.argv[1]))
source = Tensors(Path(task.source))
try:
    found = compare(stored(task), source, tied="lm_head.weight" not in source.names())
    print(f"{{found.tensors}} of {{len(source.names())}} tensors, {{found.largest_error:.3f}}")
except UnfaithfulError as error:
    print(error)
"""
    task = VerifyTask(artifact=str(artifact), variant=INT4, source=str(source), reference="", threads=2)
    return run_python(toolchain, code, json.dumps(task.to_json())).splitlines()[-1]


# Reads the tensors of a folder by numpy, and by OpenVINO; prints for each that numpy reads if all numbers are equal.
UNPACK = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, openvino
from bot.formats.openvino.worker import unpacking, weights
from bot.worker import packed
from bot.worker.tensors import Tensors

packed._IN_CACHE = 1 << 12  # so that there are several parts
core = openvino.Core()
model = core.read_model(sys.argv[2] + "/openvino_model.xml")
for name, value in weights._used(model, Tensors(weights.Path(sys.argv[3])).names()):
    ours, theirs = unpacking.reader(value), weights._reader(core, value)
    if ours is not None:
        count = value.get_shape()[0]
        parts = (0, 5), (1, 50), (max(count - 3, 0), count + 4)
        equal = [np.array_equal(ours(*some), theirs(*some)) for some in parts]
        print(name, all(equal), sep="=")
"""


def unpacked(toolchain: Toolchain, artifact: Path, source: Path) -> list[bool]:
    """Say of each tensor that numpy reads whether OpenVINO makes the same numbers of it."""
    root = Path(bot.__file__).parent.parent
    return [line.endswith("=True") for line in run_python(toolchain, UNPACK, root, artifact, source).splitlines()]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A copy of an artifact whose constants can be changed in place."""

    folder: Path

    def constants(self) -> dict[str, tuple[int, int, str]]:
        """Offset, size and shape of each constant by its name."""
        layers = ET.parse(self.folder / "openvino_model.xml").iterfind("layers/layer[@type='Const']")  # noqa: S314
        found = {str(layer.get("name")): layer.find("data") for layer in layers}
        return {
            n: (int(d.attrib["offset"]), int(d.attrib["size"]), d.attrib["shape"])
            for n, d in found.items()
            if d is not None
        }

    def read(self, name: str) -> bytes:
        offset, size, _ = self.constants()[name]
        return (self.folder / "openvino_model.bin").read_bytes()[offset : offset + size]

    def write(self, name: str, values: bytes) -> None:
        offset, size, _ = self.constants()[name]
        assert len(values) == size
        with (self.folder / "openvino_model.bin").open("r+b") as file:
            file.seek(offset)
            file.write(values)

    def of(self, prefix: str) -> list[str]:
        """The names of the constants of a part of the model that are weights."""
        return [n for n in self.constants() if n.startswith(prefix) and "weight" in n]


def rows(values: bytes, count: int) -> list[bytes]:
    size = len(values) // count
    return [values[i * size : (i + 1) * size] for i in range(count)]


def shift_an_embedding_row(model: Model) -> None:
    for name in model.of(EMBEDDING):
        parts = rows(model.read(name), 2048)
        parts[700] = parts[699]
        model.write(name, b"".join(parts))


def double_a_scale(model: Model) -> None:
    name = LAYER.format(2) + "mlp.down_proj._openvino_orig_weight/scale"
    scales = bytearray(model.read(name))
    scales[1001] += 4  # the upper byte of a float of 16 bits, whose exponent begins at its third bit
    model.write(name, bytes(scales))


def swap_two_layers(model: Model) -> None:
    for name in model.of(LAYER.format(1)):
        other = name.replace(LAYER.format(1), LAYER.format(2))
        mine, theirs = model.read(name), model.read(other)
        model.write(name, theirs)
        model.write(other, mine)


def permute_the_rows_of_q(model: Model) -> None:
    """As converters do that pair the rotated dimensions differently."""
    for name in model.of(LAYER.format(0) + "self_attn.qkv_proj"):
        parts = rows(model.read(name), 512)
        model.write(name, b"".join([*parts[32:64], *parts[:32], *parts[64:]]))


def drop_the_norms(model: Model) -> None:
    ones = b"\x00\x00\x80\x3f" * 256
    for name, (_, size, shape) in model.constants().items():
        if (size, shape) == (1024, "1, 1, 256"):
            model.write(name, ones)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (shift_an_embedding_row, "model.embed_tokens.weight: row 700, "),
        (double_a_scale, "model.layers.2.mlp.down_proj.weight: row 62, "),
        (swap_two_layers, "model.layers.1."),
        (permute_the_rows_of_q, "model.layers.0.self_attn.qkv_proj.weight: row 0, "),
        (drop_the_norms, "model.layers.0.input_layernorm.weight is "),
    ],
)
def test_a_fault_in_a_part_of_the_weights_is_named(
    built: Built, toolchain: Toolchain, sample: Path, tmp_path: Path, fault: Callable[[Model], None], name: str
) -> None:
    model = Model(folder=Path(shutil.copytree(built.folders[INT4.name], tmp_path / "artifact")))
    assert compare(toolchain, model.folder, sample) == "27 of 27 tensors, 0.095"
    fault(model)
    assert compare(toolchain, model.folder, sample).startswith(name)


def test_a_file_of_another_model_with_the_same_shapes_is_seen(
    toolchain: Toolchain, built: Built, sample: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(sample, tmp_path / "other"))
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start:] = content[start + 2 :] + content[start : start + 2]  # every weight takes its neighbour's place
    weights.unlink()
    weights.write_bytes(content)
    assert compare(toolchain, built.folders[FP32.name], sample) == "27 of 27 tensors, 0.000"
    assert "source's" in compare(toolchain, built.folders[FP32.name], other)


@pytest.mark.parametrize("name", ["int4", "int4-cw", "int8"])
def test_tensors_of_a_compressed_model_are_unpacked_as_openvino_does_it(
    toolchain: Toolchain, built: Built, sample: Path, name: str
) -> None:
    assert unpacked(toolchain, built.folders[f"openvino/{name}"], sample) == [True] * 27


def test_floats_are_read_as_openvino_does_it(toolchain: Toolchain, built: Built, sample: Path) -> None:
    assert unpacked(toolchain, built.folders[FP16.name], sample) == [True] * 27


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        pytest.param("phi-3-mini-4k", 15, marks=pytest.mark.sweep),
        ("phi-4-mini", 14),
        ("phi-2", 33),
        ("phi-3.5-moe", 55),
    ],
)
def test_every_tensor_of_the_other_kinds_of_phi_is_found(
    toolchain: Toolchain, kind_of_phi: Callable[[str], tuple[Path, Path]], tmp_path: Path, kind: str, tensors: int
) -> None:
    """Norms of one and biases of zero among them, which are in no file; the fixture has no others."""
    source, _ = kind_of_phi(kind)
    result = build(toolchain, source, [INT4, FP16], tmp_path / "job", log=tmp_path / "log")
    assert compare(toolchain, result.folders[FP16.name], source) == f"{tensors} of {tensors} tensors, 0.000"
    assert compare(toolchain, result.folders[INT4.name], source).startswith(f"{tensors} of {tensors} tensors, 0.09")
    assert set(unpacked(toolchain, result.folders[INT4.name], source)) == {True}
