"""Calibrated files, of each format that has them: plain files with other codes, held against their own solve."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.records.artifacts import Variant
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.controls.artifacts import LARGER_SCALE, change_at, enlarge
from tests.formats.onnx.worker.test_lean import READY as ONNX_READY
from tests.shared import make_once
from tests.worker.running import (
    Built,
    assert_proven,
    build,
    build_once,
    collect_moments,
    copy_of,
    distances,
    failures,
    measure,
    prepare,
    run_build,
    run_python,
    solved_beside,
    with_own_types,
    wrong_weights,
)
from tests.worker.stock import assert_same
from tests.worker.twins import empty, killing, run_with

pytestmark = pytest.mark.toolchain


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row that can be calibrated: the file with its weights, code that kills its build, and who builds others.

    ``places`` returns where the codes and the scales of two matrices of one shape are in that file, and the type of the
    latter, as ``Place``. ``header`` is how many bytes more its header may have, and ``cost`` at most what the file may
    cost on the real model, as a part of what the plain one does.
    """

    plain: Variant
    weights: str
    killed: str
    by_itself: str
    places: Callable[[Path], "tuple[Place, Place]"]
    header: int = 0
    cost: float = 0.33

    def file(self, artifact: Path) -> Path:
        """The file with the weights of an artifact."""
        [found] = artifact.glob(self.weights)
        return found

    @property
    def variant(self) -> Variant:
        """The calibrated row. Its types are the tool's own here: test_mixed.py chooses them."""
        return with_own_types(self.plain)

    @property
    def toolchain(self) -> Toolchain:
        return ensure(self.plain.format, Silent())


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where codes and scales of a matrix begin and end in a file; scales are of a type of numpy's, or bfloat16."""

    codes: tuple[int, int]
    scales: tuple[int, int]
    kind: str


def _safetensors_places(folder: Path, codes: str, scales: str) -> tuple[Place, Place]:
    with (folder / "model.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))

    def place(name: str) -> tuple[int, int]:
        begin, end = header[name]["data_offsets"]
        return 8 + size + begin, 8 + size + end

    first, second = (
        Place(codes=place(f"{m}.{codes}"), scales=place(f"{m}.{scales}"), kind="bfloat16")
        for m in (f"model.layers.{n}.self_attn.o_proj" for n in (0, 1))
    )
    return first, second


# Prints of the inputs of two nodes where they begin and how many bytes they have.
_ONNX_PLACES = """
import json, sys, onnx_ir
nodes = {n.name: n for n in onnx_ir.load(sys.argv[1] + "/model.onnx").graph}
for layer in (0, 1):
    node = nodes[f"/model/layers.{layer}/attn/o_proj/MatMul_Q4"]
    print(*(x for v in node.inputs[1:] for x in (v.const_value.offset, v.const_value.nbytes)))
"""


def _onnx_places(folder: Path) -> tuple[Place, Place]:
    lines = run_python(ensure("onnx", Silent()), _ONNX_PLACES, folder).splitlines()
    first, second = (
        Place(codes=(n[0], n[0] + n[1]), scales=(n[2], n[2] + n[3]), kind="<f4")
        for n in ([int(number) for number in line.split()] for line in lines)
    )
    return first, second


# Prints of the blocks of two tensors where they begin and end.
_GGUF_PLACES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bot.formats.gguf.worker.file import read_header
tensors = read_header(Path(sys.argv[2])).tensors
for layer in (0, 1):
    place = tensors[f"blk.{layer}.attn_output.weight"]
    print(place.kind, place.offset, place.offset + place.size)
"""


def _gguf_places(folder: Path) -> tuple[Place, Place]:
    """Of a block of Q4_K, the scale of its scales comes first, and codes are its last byte."""
    [file] = folder.glob("*.gguf")
    said = run_python(ensure("gguf", Silent()), _GGUF_PLACES, Path(bot.__file__).parents[1], file)
    lines = [[int(number) for number in line.split()] for line in said.splitlines()]
    assert [kind for kind, _, _ in lines] == [12, 12]
    size = 144
    first, second = (
        Place(codes=(end - size + 16, end), scales=(end - size, end - size + 2), kind="<f2") for _, _, end in lines
    )
    return first, second


def _openvino_places(folder: Path) -> tuple[Place, Place]:
    first, second = (
        Place(codes=_constant(folder, layer, "u4", ""), scales=_constant(folder, layer, "f16", "/scale"), kind="<f2")
        for layer in (0, 1)
    )
    return first, second


def _constant(folder: Path, layer: int, kind: str, what: str) -> tuple[int, int]:
    name = re.compile(rf"layers\.{layer}\.self_attn\.o_proj\.\w+{what}$")
    for node in ET.parse(folder / "openvino_model.xml").iter("layer"):  # noqa: S314
        data = node.find("data")
        if node.get("type") == "Const" and name.search(node.get("name", "")) and data is not None:
            assert data.get("element_type") == kind
            begin = int(data.get("offset", ""))
            return begin, begin + int(data.get("size", ""))
    raise AssertionError(f"no {kind} of layer {layer}")


def _scale_off(file: Path, place: Place, _: Place) -> None:
    begin, end = place.scales
    size = 4 if place.kind == "<f4" else 2
    enlarge(file, begin + (end - begin) // size // 2 * size, place.kind, LARGER_SCALE)


def _code_flipped(file: Path, place: Place, _: Place) -> None:
    change_at(file, sum(place.codes) // 2, "u1", lambda codes: codes ^ 1)


def _swapped(file: Path, one: Place, other: Place) -> None:
    data = bytearray(file.read_bytes())
    for (a, end), (b, other_end) in ((one.codes, other.codes), (one.scales, other.scales)):
        data[a:end], data[b:other_end] = data[b:other_end], data[a:end]
    file.write_bytes(data)


#: What only weights give away, and they exactly: of a calibrated file their levels say nothing.
FAULTS = {"a scale a twentieth too large": _scale_off, "a code": _code_flipped, "two matrices swapped": _swapped}

ROWS = {
    "gguf": Row(
        plain=catalogue.all_variants()["gguf/q4_k_m"],
        weights="*.gguf",
        killed=killing("worker.placed:PlacedFile", "write", after=15),
        by_itself="llama.cpp by itself",
        places=_gguf_places,
        header=300,  # what it says of the importance matrix
        cost=0.4,
    ),
    "mlx": Row(
        plain=catalogue.all_variants()["mlx/4bit"],
        weights="model.safetensors",
        killed=killing("worker.placed:PlacedFile", "write", after=15),
        by_itself="mlx-lm by itself",
        places=lambda folder: _safetensors_places(folder, "weight", "scales"),
    ),
    "onnx": Row(
        plain=catalogue.all_variants()["onnx/cpu-int4"],
        weights="model.onnx.data",
        killed=ONNX_READY + killing("formats.onnx.worker.data:_Open", "put", after=15),
        by_itself="the builder by itself",
        places=_onnx_places,
        cost=0.36,
    ),
    "openvino": Row(
        plain=catalogue.all_variants()["openvino/int4"],
        weights="openvino_model.bin",
        killed=killing("formats.openvino.worker.writing:_Open", "append_stretch", after=9),
        by_itself="optimum-intel by itself",
        places=_openvino_places,
        cost=0.43,
    ),
    "torch": Row(
        plain=catalogue.all_variants()["torch/w4a16"],
        weights="model.safetensors",
        killed=killing("worker.placed:PlacedFile", "write", after=30),
        by_itself="compressed-tensors by itself",
        places=lambda folder: _safetensors_places(folder, "weight_packed", "weight_scale"),
        cost=0.5,
    ),
}


@pytest.fixture(scope="module", params=ROWS.values(), ids=list(ROWS))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def whole(row: Row, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample's calibrated file: to be read only."""
    return build_once(tmp_path_factory, row.toolchain, sample, [row.variant], f"{row.plain.format} calibrated")


def test_it_is_the_plain_file_with_other_codes(row: Row, whole: Built, request: pytest.FixtureRequest) -> None:
    made: Built = request.getfixturevalue(f"{row.plain.format}_files")
    ours, plain = whole.files(row.variant.name), made.files(row.plain.name)
    assert ours.keys() == plain.keys()
    [changed] = [n for n in ours if ours[n] != plain[n]]
    assert Path(changed).match(row.weights)
    assert 0 <= len(ours[changed]) - len(plain[changed]) <= row.header


def test_it_passes_every_check(row: Row, whole: Built, sample: Path, reference: Path, tmp_path: Path) -> None:
    artifact = whole.folders[row.variant.name]
    assert_proven(measure(row.toolchain, artifact, row.variant, sample, reference, tmp_path / "log"), 0.1)


def test_without_what_it_was_solved_to_its_weights_are_not_proven(
    row: Row, whole: Built, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    artifact = tmp_path / "files"
    artifact.symlink_to(whole.folders[row.variant.name])
    found = failures(measure(row.toolchain, artifact, row.variant, sample, few_windows, tmp_path / "log"))
    assert found == {"weights": "ValueError: what its matrices were rounded to is not known: build it again"}


def test_the_number_of_threads_changes_no_byte(row: Row, whole: Built, sample: Path, tmp_path: Path) -> None:
    again = build(row.toolchain, sample, [row.variant], tmp_path / "job", threads=1, log=tmp_path / "log")
    assert_same(again, whole)


def test_a_source_that_streams_gives_the_same(row: Row, whole: Built, sample: Path, tmp_path: Path) -> None:
    again = build(row.toolchain, sample, [row.variant], tmp_path / "job", streamed=True, log=tmp_path / "log")
    assert_same(again, whole)


def test_a_killed_build_goes_on_and_knows_all_that_it_solved(
    row: Row, whole: Built, sample: Path, tmp_path: Path
) -> None:
    killed = prepare(tmp_path / "job", [row.variant])
    assert run_with(row.killed, row.toolchain, sample, [row.variant], killed).killed
    empty(killed)
    run_build(row.toolchain, sample, [row.variant], killed, log=tmp_path / "log")
    assert_same(killed, whole)
    solved = [json.loads(solved_beside(b.folders[row.variant.name]).read_text()) for b in (killed, whole)]
    assert solved[0] == solved[1]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_its_weights_is_found(
    row: Row, whole: Built, sample: Path, tmp_path: Path, fault: Callable[[Path, Place, Place], None]
) -> None:
    artifact = copy_of(whole.folders[row.variant.name], tmp_path / "files")
    shutil.copyfile(solved_beside(whole.folders[row.variant.name]), solved_beside(artifact))
    assert wrong_weights(row.toolchain, artifact, row.variant, sample, tmp_path / "healthy") == ""
    fault(row.file(artifact), *row.places(artifact))
    assert "self_attn.o_proj.weight" in wrong_weights(row.toolchain, artifact, row.variant, sample, tmp_path / "faulty")


# The sign is what a slip of the pen would change: each column then doubles errors that it should make up for.
_FAULTY_SOLVER = """
from dataclasses import replace
from bot.worker import moments
right = moments.factor
moments.factor = lambda sums: (lambda known: replace(known, shares=-known.shares))(right(sums))
"""


def test_a_fault_of_the_solver_ends_the_build(row: Row, sample: Path, tmp_path: Path) -> None:
    """It takes its own result for a better one, and so would the digest of that."""
    job = prepare(tmp_path / "job", [row.variant])
    ran = run_with(_FAULTY_SOLVER, row.toolchain, sample, [row.variant], job, fails=True)
    assert ran.names == []
    [said] = [e["message"] for e in ran.events if e["event"] in ("error", "failed")]
    assert re.search(r"WorseThanPlainError: model\.\S+ as it was solved is [\d.]+ times as far off", said)


def test_the_tool_by_itself_does_not_calibrate(row: Row, sample: Path, tmp_path: Path) -> None:
    built = build(row.toolchain, sample, [row.variant, row.plain], tmp_path / "job", stock=True, log=tmp_path / "log")
    assert built.failures == {row.variant.name: f"{row.by_itself} cannot build it: it is calibrated"}
    assert built.names == [row.plain.name]


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_it_costs_much_less_on_the_real_model(
    row: Row, real_model: Path, real_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At the same size, in the format's own runtime, calibrated on all of the text."""
    moments = make_once(
        tmp_path_factory, "real moments", lambda folder: collect_moments(real_model, folder, characters=10**9)
    )
    cost, size = {}, {}
    for name, variant in (("plain", row.plain), ("calibrated", row.variant)):
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("tests.worker.running.moments_of", lambda _: str(moments / "moments"))
            built = build(row.toolchain, real_model, [variant], folder / "job", model="real", log=folder / "log")
        artifact = built.folders[variant.name]
        found = measure(row.toolchain, artifact, variant, real_model, real_reference, folder / "log")
        assert failures(found) == {}
        cost[name] = distances(found)["short"].figures.mean_kl
        size[name] = row.file(artifact).stat().st_size
    assert cost["calibrated"] <= row.cost * cost["plain"]
    assert 0 <= size["calibrated"] - size["plain"] <= row.header
