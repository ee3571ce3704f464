"""MLX, calibrated: the same files with other codes, that MLX reads as they were solved, and that come nearer."""

import json
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.formats.recipes import with_calibration
from bot.progress import Silent
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.shared import make_once
from tests.worker.running import (
    Built,
    assert_proven,
    build,
    build_once,
    collect_moments,
    distances,
    failures,
    measure,
    prepare,
    run_build,
    run_python,
    solved_beside,
)
from tests.worker.stock import assert_same
from tests.worker.twins import empty, killing, run_with

pytestmark = pytest.mark.toolchain

PLAIN = catalogue.all_variants()["mlx/4bit"]
CALIBRATED = with_calibration(PLAIN)
WEIGHTS = "model.safetensors"

# Prints the largest difference between codes and what MLX makes of them, for each number of bits.
_UNPACK = """
import sys
import mlx.core as mx, numpy as np
sys.path.insert(0, sys.argv[1])
from bot.formats.mlx.worker.calibrated import packed

for bits in (2, 3, 4, 6, 8):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (5, 128)).astype(np.uint8)
    scales, biases = mx.ones((5, 2)), mx.zeros((5, 2))
    got = mx.dequantize(mx.array(packed(codes, bits)), scales, biases, group_size=64, bits=bits)
    print(np.abs(np.asarray(got) - codes).max())
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("mlx", Silent())


@pytest.fixture(scope="module")
def whole(toolchain: Toolchain, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample's calibrated file: to be read only."""
    return build_once(tmp_path_factory, toolchain, sample, [CALIBRATED], "mlx calibrated")


def test_codes_are_packed_as_mlx_unpacks_them(toolchain: Toolchain) -> None:
    assert run_python(toolchain, _UNPACK, Path(bot.__file__).parents[1]).split() == ["0.0"] * 5


def test_it_is_the_plain_file_with_other_codes(whole: Built, mlx_files: Built) -> None:
    ours, plain = whole.files(CALIBRATED.name), mlx_files.files(PLAIN.name)
    assert ours.keys() == plain.keys()
    assert [n for n in ours if ours[n] != plain[n]] == [WEIGHTS]
    size = 8 + int.from_bytes(plain[WEIGHTS][:8], "little")
    assert ours[WEIGHTS][:size] == plain[WEIGHTS][:size]
    assert len(ours[WEIGHTS]) == len(plain[WEIGHTS])


def test_it_passes_every_check(whole: Built, sample: Path, reference: Path, tmp_path: Path) -> None:
    toolchain, artifact = ensure("mlx", Silent()), whole.folders[CALIBRATED.name]
    found = measure(toolchain, artifact, CALIBRATED, sample, reference, tmp_path / "log")
    assert_proven(found, 0.1)


def test_without_what_it_was_solved_to_its_weights_are_not_proven(
    toolchain: Toolchain, whole: Built, sample: Path, few_windows: Path, tmp_path: Path
) -> None:
    artifact = tmp_path / "files"
    artifact.symlink_to(whole.folders[CALIBRATED.name])
    found = failures(measure(toolchain, artifact, CALIBRATED, sample, few_windows, tmp_path / "log"))
    assert found == {"weights": "ValueError: what its matrices were rounded to is not known: build it again"}


def test_the_number_of_threads_changes_no_byte(
    toolchain: Toolchain, whole: Built, sample: Path, tmp_path: Path
) -> None:
    assert_same(build(toolchain, sample, [CALIBRATED], tmp_path / "job", threads=1, log=tmp_path / "log"), whole)


def test_a_source_that_streams_gives_the_same(toolchain: Toolchain, whole: Built, sample: Path, tmp_path: Path) -> None:
    assert_same(build(toolchain, sample, [CALIBRATED], tmp_path / "job", streamed=True, log=tmp_path / "log"), whole)


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


def test_mlx_lm_by_itself_does_not_calibrate(toolchain: Toolchain, sample: Path, tmp_path: Path) -> None:
    built = build(toolchain, sample, [CALIBRATED, PLAIN], tmp_path / "job", stock=True, log=tmp_path / "log")
    assert built.failures == {CALIBRATED.name: "mlx-lm by itself cannot build it: build.quality is calibrated"}


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_it_costs_a_third_on_the_real_model(
    toolchain: Toolchain, real_model: Path, real_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At the same size, in MLX itself, calibrated on all of the text."""

    def calibrated(folder: Path) -> None:
        collect_moments(real_model, folder, characters=10**9)

    moments = make_once(tmp_path_factory, "real moments", calibrated) / "moments"
    cost = {}
    for name, variant in (("plain", PLAIN), ("calibrated", CALIBRATED)):
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("tests.worker.running.moments_of", lambda _: str(moments))
            built = build(toolchain, real_model, [variant], folder / "job", model="real", log=folder / "log")
        found = measure(toolchain, built.folders[variant.name], variant, real_model, real_reference, folder / "log")
        assert failures(found) == {}
        cost[name] = distances(found)["short"].figures.mean_kl
    assert cost["calibrated"] <= 0.33 * cost["plain"]
