"""MLX, chunk by chunk: the bytes of mlx-lm's own way for every family and row, in a fraction of its memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.checkpoints import in_shards, with_newer_keys
from tests.worker.limits import data_limit
from tests.worker.running import build, copy_of, prepare, rows, run_build
from tests.worker.stock import assert_same
from tests.worker.twins import assert_goes_stock, assert_streams, assert_twins, families, killing, run_with

pytestmark = pytest.mark.toolchain

ROWS = rows("mlx")
FOUR_BITS, BF16, FP32 = (catalogue.all_variants()[f"mlx/{n}"] for n in ("4bit", "bf16", "fp32"))
CONVERTED = families(always=("phi-3.5-mini", "phi-3.5-moe"), covered=lambda name: name != "phi-tiny-moe")


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("mlx", Silent())


@pytest.mark.parametrize("family", CONVERTED)
def test_every_row_of_every_family_equals_the_files_of_mlx_lm(
    toolchain: Toolchain, drawn_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    assert_twins(toolchain, drawn_of(family), ROWS, tmp_path)


def test_shards_and_newer_keys_equal_the_files_of_mlx_lm(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    assert_twins(toolchain, in_shards(with_newer_keys(copy_of(drawn, tmp_path / "source"))), [FOUR_BITS], tmp_path)


@pytest.mark.parametrize("family", ["phi-3.5-mini", "phi-3.5-moe"])
def test_a_source_that_streams_gives_the_same(
    toolchain: Toolchain, drawn_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    assert_streams(toolchain, drawn_of(family), ROWS, tmp_path)


def test_weights_of_a_real_size_stream_through(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    assert_streams(toolchain, large, [FOUR_BITS], tmp_path)


def test_it_takes_a_fraction_of_the_memory_that_mlx_lm_takes(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    with data_limit(400 << 20):
        built = build(toolchain, large, [BF16], tmp_path / "job", log=tmp_path / "log")
        stock = build(toolchain, large, [BF16], tmp_path / "stock", log=tmp_path / "log", stock=True)
    assert list(stock.failures) == [BF16.name]  # it reads into memory that it was not given
    assert built.folders[BF16.name].joinpath("model.safetensors").stat().st_size > 600e6
    (said,) = (e for e in built.events if e["event"] == "built")
    assert said["peak_memory"] < 300 << 20


@pytest.mark.parametrize("writes", [20, *(pytest.param(n, marks=pytest.mark.sweep) for n in (0, 1, 45, 63))])
def test_a_killed_build_goes_on_from_its_complete_parts(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, writes: int
) -> None:
    whole = build(toolchain, drawn, [FOUR_BITS], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [FOUR_BITS])
    ran = run_with(killed_after(writes), toolchain, drawn, [FOUR_BITS], killed)
    assert ran.killed
    assert ran.events == ran.progress
    assert killed.files(FOUR_BITS.name) == {}

    run_build(toolchain, drawn, [FOUR_BITS], killed, log=tmp_path / "log")
    assert_same(killed, whole)
    first = killed.progress[0]
    if writes >= 20:  # the header, and the embeddings' three
        assert first["done"] > first["total"] * writes / 63 / 3


def test_variants_of_which_one_is_further_along_go_on_together(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    whole = build(toolchain, drawn, [FOUR_BITS, FP32], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [FOUR_BITS, FP32])
    run_with(killed_after(15), toolchain, drawn, [FP32], killed)
    run_build(toolchain, drawn, [FOUR_BITS, FP32], killed, log=tmp_path / "log")
    assert_same(killed, whole)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("lean.PINNED['mlx-lm'] = '0.1'", "mlx-lm is 0.32.2, and it was compared with 0.1"),
        ("lean._MODELS = ('llama',)", "it does not know models of type phi3"),
        ("layout._header = lambda entries: b''", "MLX writes the headers of its files in another form"),
    ],
    ids=["another version", "another model", "another form"],
)
def test_an_unknown_model_goes_mlx_lms_own_way(
    toolchain: Toolchain, drawn: Path, tmp_path: Path, change: str, reason: str
) -> None:
    change = f"from bot.formats.mlx.worker import layout, lean; {change}"
    assert_goes_stock(change, toolchain, drawn, FOUR_BITS, tmp_path, reason)


def killed_after(writes: int) -> str:
    return killing("worker.placed:PlacedFile", "write", after=writes)
