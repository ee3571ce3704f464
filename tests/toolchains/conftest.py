"""A toolchain that is quick to install, from an index of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import format_folders, toolchains
from tests.toolchains.index import Index, lock, serve, wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index that is all pip knows of."""
    folder = tmp_path / "index"
    folder.mkdir()
    with serve(folder) as running:
        for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")  # not even the machine's own
        monkeypatch.setenv("PIP_INDEX_URL", running.url)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        yield running


@pytest.fixture
def tiny(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of a toolchain ``tiny`` of two packages; it is the only toolchain. Return its lock file."""
    folder = tmp_path / "toolchains"
    folder.mkdir()
    wheels = [wheel(index.folder, "first"), wheel(index.folder, "second")]
    (folder / "tiny.txt").write_text(lock(*wheels, imports='"first", "second"'))
    monkeypatch.setattr(toolchains, "FOLDER", folder)
    monkeypatch.setattr(format_folders, "FOLDER", folder)
    monkeypatch.setenv("PHI_BOT_CACHE", str(tmp_path / "cache"))
    return folder / "tiny.txt"
