"""GGUF, calibrated: the file of llama.cpp's quantizer with other codes, that it reads as they were solved."""

import json
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.formats.recipes import with_calibration
from bot.progress import Silent
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.running import (
    Built,
    assert_proven,
    build,
    build_once,
    distances,
    measure,
    prepare,
    run_build,
    run_python,
    solved_beside,
)
from tests.worker.stock import assert_same
from tests.worker.twins import empty, killing, run_with

pytestmark = pytest.mark.toolchain

PLAIN = catalogue.all_variants()["gguf/q4_k_m"]
CALIBRATED = with_calibration(PLAIN)

# Prints the types of tensors whose levels differ between two files, and of those whose codes do.
_COMPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from bot.formats.gguf.worker.file import read_header, the_file
from bot.formats.gguf.worker.blocks import LAYOUTS

one, other = (the_file(Path(p)) for p in sys.argv[2:])
a, b = read_header(one), read_header(other)
assert a.tensors.keys() == b.tensors.keys()
said = {"same": [], "codes": [], "metadata": sorted(b.metadata.keys() - a.metadata.keys())}
for name, place in a.tensors.items():
    there = b.tensors[name]
    assert (place.shape, place.kind, place.size) == (there.shape, there.kind, there.size)
    x, y = (np.fromfile(f, np.uint8, p.size, offset=p.offset) for f, p in ((one, place), (other, there)))
    said["same" if (x == y).all() else "codes"].append(name)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def whole(toolchain: Toolchain, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample's calibrated file: to be read only."""
    return build_once(tmp_path_factory, toolchain, sample, [CALIBRATED], "gguf calibrated")


def test_it_has_the_types_of_the_plain_file_and_other_codes(
    toolchain: Toolchain, whole: Built, gguf_files: Built
) -> None:
    folders = gguf_files.folders[PLAIN.name], whole.folders[CALIBRATED.name]
    said = json.loads(run_python(toolchain, _COMPARE, Path(bot.__file__).parents[1], *folders))
    assert said["metadata"] == [f"quantize.imatrix.{key}" for key in ("dataset", "entries_count", "file")]
    solved = json.loads(solved_beside(whole.folders[CALIBRATED.name]).read_text())
    assert len(said["codes"]) == len(solved) > 8
    assert all(name.endswith("weight") for name in said["codes"])


def test_it_passes_every_check_and_comes_nearer(
    toolchain: Toolchain, whole: Built, gguf_files: Built, sample: Path, reference: Path, tmp_path: Path
) -> None:
    cost = {}
    for variant, files in ((PLAIN, gguf_files), (CALIBRATED, whole)):
        artifact = files.folders[variant.name]
        found = measure(toolchain, artifact, variant, sample, reference, tmp_path / "log")
        assert_proven(found, 0.1)
        cost[variant.is_calibrated] = distances(found)["short"].figures.mean_kl
    assert cost[True] < cost[False]


@pytest.mark.parametrize(("threads", "streamed"), [(1, False), (2, True)])
def test_threads_and_streams_change_no_byte(
    toolchain: Toolchain, whole: Built, sample: Path, tmp_path: Path, threads: int, *, streamed: bool
) -> None:
    built = build(
        toolchain, sample, [CALIBRATED], tmp_path / "job", threads=threads, streamed=streamed, log=tmp_path / "log"
    )
    assert_same(built, whole)


def test_a_killed_build_goes_on_and_knows_all_that_it_solved(
    toolchain: Toolchain, whole: Built, sample: Path, tmp_path: Path
) -> None:
    killed = prepare(tmp_path / "job", [CALIBRATED])
    run_with(killing("worker.placed:PlacedFile", "write", after=15), toolchain, sample, [CALIBRATED], killed)
    empty(killed)
    run_build(toolchain, sample, [CALIBRATED], killed, log=tmp_path / "log")
    assert_same(killed, whole)
    solved = [json.loads(solved_beside(b.folders[CALIBRATED.name]).read_text()) for b in (killed, whole)]
    assert solved[0] == solved[1]


def test_llama_cpp_by_itself_does_not_calibrate(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    built = build(toolchain, sample, [CALIBRATED, PLAIN], tmp_path / "job", stock=True, log=tmp_path / "log")
    assert built.failures == {CALIBRATED.name: "llama.cpp by itself cannot build it: build.quality is calibrated"}
