"""Whether a write failed because the disk is full."""

import errno
import shutil
from pathlib import Path

import pytest

from bot.worker.disk import disk_full, out_of_space
from tests.worker.running import small_disk


def test_a_disk_with_room_is_not_to_blame(tmp_path: Path) -> None:
    assert out_of_space(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_too_little_room_for_the_rest_is(tmp_path: Path) -> None:
    error = out_of_space(tmp_path, needed=shutil.disk_usage(tmp_path).free * 2)
    assert error is not None
    assert error.errno == errno.ENOSPC
    assert str(error) == f"[Errno {errno.ENOSPC}] No space left on device: '{tmp_path}'"


@pytest.mark.process
def test_a_full_disk_is(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        (disk / "half-made").write_bytes(bytes(1_500_000))
        error = out_of_space(disk)
        assert error is not None
        assert error.errno == errno.ENOSPC
        assert [p.name for p in disk.iterdir()] == ["half-made"]


def test_an_error_that_says_so_itself_is_believed_after_its_file_is_gone(tmp_path: Path) -> None:
    said = OSError(errno.ENOSPC, "No space left on device")
    assert disk_full(said, tmp_path) is said
    assert disk_full(OSError(errno.EACCES, "Permission denied"), tmp_path) is None
    assert disk_full(ValueError("a library's own words"), tmp_path) is None


@pytest.mark.process
def test_a_full_disk_is_found_behind_an_error_that_keeps_it_to_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        (disk / "half-made").write_bytes(bytes(1_500_000))
        found = disk_full(ValueError("a library's own words"), disk)
        assert found is not None
        assert found.errno == errno.ENOSPC
