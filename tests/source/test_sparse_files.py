"""Files with holes: full length, little disk, and what is punched out is gone from the disk and reads as zeros."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.source import sparse_files
from bot.source.sparse_files import allocated_bytes

MB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not sparse_files.can_punch(tmp_path):
        pytest.skip("this file system has no holes")
    return tmp_path


def test_a_new_file_has_its_length_and_takes_no_disk(folder: Path) -> None:
    sparse_files.make(folder / "a", 100 * MB)
    assert (folder / "a").stat().st_size == 100 * MB
    assert allocated_bytes(folder / "a") < MB
    with pytest.raises(FileExistsError):
        sparse_files.make(folder / "a", 1)


def test_a_punched_hole_takes_no_disk_and_reads_as_zeros(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"\xff" * (3 * MB))
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        sparse_files.punch(file.fileno(), MB, 2 * MB)
    assert path.read_bytes() == b"\xff" * MB + bytes(MB) + b"\xff" * MB
    assert allocated_bytes(path) < 2.2 * MB


@settings(max_examples=50, deadline=None)
@given(begin=st.integers(0, 50_000), length=st.integers(0, 50_000))
def test_bytes_beside_a_hole_stay(tmp_path_factory: pytest.TempPathFactory, begin: int, length: int) -> None:
    path = tmp_path_factory.mktemp("holes") / "a"
    path.write_bytes(b"\xff" * 100_000)
    with path.open("r+b") as file:
        sparse_files.punch(file.fileno(), begin, begin + length)
    content = path.read_bytes()
    assert len(content) == 100_000
    assert content[:begin] == b"\xff" * begin
    assert content[begin + length :] == b"\xff" * (100_000 - begin - length)


def test_a_folder_where_files_have_no_holes_is_recognised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sparse_files.can_punch(folder)
    assert list(folder.iterdir()) == []
    monkeypatch.setattr("sys.platform", "win32")
    assert not sparse_files.can_punch(folder)
