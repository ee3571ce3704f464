"""PyTorch, some rows after the others: the bytes that compressed-tensors gives in a whole model, for every family."""

from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot import catalogue
from bot.progress import Silent
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from tests.worker.checkpoints import in_shards, with_newer_keys
from tests.worker.limits import data_limit
from tests.worker.running import build, copy_of, prepare, rows, run_build, run_python
from tests.worker.stock import assert_same
from tests.worker.twins import assert_goes_stock, assert_streams, assert_twins, families, killing, run_with

pytestmark = pytest.mark.toolchain

ROWS = rows("torch")
W4A16, W8A8 = (catalogue.all_variants()[f"torch/{n}"] for n in ("w4a16", "w8a8"))
CONVERTED = families(always=("phi-3.5-mini", "phi-2"), covered=lambda name: not name.endswith("moe"))


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("torch", Silent())


@pytest.mark.parametrize("family", CONVERTED)
def test_every_row_of_every_family_equals_the_files_of_compressed_tensors(
    toolchain: Toolchain, drawn_of: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    assert_twins(toolchain, drawn_of(family), ROWS, tmp_path)


@pytest.mark.sweep
def test_shards_and_newer_keys_equal_the_files_of_compressed_tensors(
    toolchain: Toolchain, drawn: Path, tmp_path: Path
) -> None:
    assert_twins(toolchain, in_shards(with_newer_keys(copy_of(drawn, tmp_path / "source"))), [W4A16], tmp_path)


def test_a_source_that_streams_gives_the_same(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    assert_streams(toolchain, drawn, ROWS, tmp_path)


def test_it_takes_the_memory_of_some_rows(toolchain: Toolchain, large: Path, tmp_path: Path) -> None:
    with data_limit(500 << 20):
        built = build(toolchain, large, [W8A8], tmp_path / "job", log=tmp_path / "log")
    assert built.folders[W8A8.name].joinpath("model.safetensors").stat().st_size > 500e6


def test_a_killed_build_goes_on_from_its_complete_parts(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    whole = build(toolchain, drawn, [W4A16], tmp_path / "whole", log=tmp_path / "log")
    killed = prepare(tmp_path / "killed", [W4A16])
    killer = killing("worker.placed:PlacedFile", "write", after=20)
    ran = run_with(killer, toolchain, drawn, [W4A16], killed)
    assert ran.killed
    assert killed.files(W4A16.name) == {}
    run_build(toolchain, drawn, [W4A16], killed, log=tmp_path / "log")
    assert_same(killed, whole)
    assert killed.progress[0]["done"] > 0


def test_another_version_goes_the_librarys_own_way(toolchain: Toolchain, drawn: Path, tmp_path: Path) -> None:
    change = "from bot.formats.torch.worker import lean; lean.PINNED['compressed-tensors'] = '0.1'"
    reason = "compressed-tensors is 0.19.0, and it was compared with 0.1"
    assert_goes_stock(change, toolchain, drawn, W4A16, tmp_path, reason)


def test_a_system_that_cannot_write_at_a_place_is_left_to_the_library(toolchain: Toolchain) -> None:
    """As Windows, which has no such call."""
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
del os.pwrite
from bot.formats.torch.worker import lean
from bot.worker.fast import NotCovered
try:
    lean.build(None, (), None)
except NotCovered as why:
    print(why)
"""
    assert run_python(toolchain, code, Path(bot.__file__).parents[1]).strip() == "it was not tried on this system"
