"""What stock tools write is known by its digest: they run where that is not what was built."""

import json
import shutil
from pathlib import Path

import pytest

from bot import catalogue
from bot.progress import Silent
from bot.toolchains import Toolchain, names
from bot.toolchains.install import ensure
from tests.worker import stock
from tests.worker.running import Built, build
from tests.worker.stock import assert_as_stock

Q8_0 = catalogue.all_variants()["gguf/q8_0"]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where digests are kept: there is none yet."""
    monkeypatch.setattr(stock, "FILE", tmp_path / "stock.json")
    return tmp_path / "stock.json"


@pytest.fixture
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture
def built(toolchain: Toolchain, sample: Path, tmp_path: Path) -> Built:
    return build(toolchain, sample, [Q8_0], tmp_path / "job", log=tmp_path / "log")


def test_kept_digests_are_of_existing_toolchains() -> None:
    kept = json.loads(stock.FILE.read_text())
    assert kept.keys() <= set(names())
    for name, of in kept.items():
        assert {key.split("/")[0] for key in of["written"]} == {name}


@pytest.mark.toolchain
def test_the_tool_runs_where_nothing_is_kept_and_then_no_more(
    file: Path, toolchain: Toolchain, sample: Path, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ran in (tmp_path / "one", tmp_path / "two"):
        with pytest.warns(UserWarning, match="gguf/q8_0: what the tool writes is not kept: make digests"):
            assert_as_stock(built, toolchain, sample, [Q8_0], ran)
        assert ran.exists()
    with monkeypatch.context() as patched:
        patched.setattr(stock, "MODE", "keep")
        assert_as_stock(built, toolchain, sample, [Q8_0], tmp_path / "three")
    assert_as_stock(built, toolchain, sample, [Q8_0], tmp_path / "four")
    assert not (tmp_path / "four").exists()

    other = shutil.copytree(sample, tmp_path / "other")
    (other / "LICENSE").chmod(0o644)
    (other / "LICENSE").write_text("Another source")
    with pytest.warns(UserWarning, match="is not kept"):
        assert_as_stock(built, toolchain, other, [Q8_0], tmp_path / "five")


@pytest.mark.toolchain
def test_other_bytes_are_found_whatever_is_kept(
    file: Path, toolchain: Toolchain, sample: Path, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(stock, "MODE", "keep")
        assert_as_stock(built, toolchain, sample, [Q8_0], tmp_path / "kept")
    (whole,) = built.folders[Q8_0.name].iterdir()
    whole.write_bytes(whole.read_bytes()[:-1] + b"?")
    with pytest.raises(AssertionError):
        assert_as_stock(built, toolchain, sample, [Q8_0], tmp_path / "stock")


@pytest.mark.toolchain
def test_a_sweep_finds_a_wrong_kept_digest(
    file: Path, toolchain: Toolchain, sample: Path, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock, "MODE", "keep")
    assert_as_stock(built, toolchain, sample, [Q8_0], tmp_path / "kept")
    monkeypatch.setattr(stock, "MODE", "run")
    assert_as_stock(built, toolchain, sample, [Q8_0], tmp_path / "held")
    (kept,) = json.loads(file.read_text())["gguf"]["written"].values()
    file.write_text(file.read_text().replace(kept, "0" * 64))
    with pytest.raises(AssertionError, match="make digests"):
        assert_as_stock(built, toolchain, sample, [Q8_0], tmp_path / "found")
