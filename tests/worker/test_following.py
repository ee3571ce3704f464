"""A file is hashed while it is written, and never further than it is what it will be."""

import hashlib
import random
from pathlib import Path

import pytest

from bot.worker.following import Following


def test_it_is_the_digest_of_the_file(tmp_path: Path) -> None:
    data, moments = random.Random(1).randbytes(5_000_000), random.Random(2)
    file = tmp_path / "data"
    with file.open("wb", buffering=0) as out:
        following = Following(file)
        at = 0
        while at < len(data):
            at += out.write(data[at : at + moments.randrange(1, 700_000)])
            following.reach(at)
        assert following.digest(len(data)) == hashlib.sha256(data).hexdigest()


def test_bytes_that_may_still_change_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"half here")
    following = Following(file)
    following.reach(4)
    with file.open("r+b") as changed:
        changed.seek(5)
        changed.write(b"gone")
    assert following.digest(9) == hashlib.sha256(b"half gone").hexdigest()


def test_it_can_be_given_up(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(100))
    following = Following(tmp_path / "data")
    following.reach(50)
    following.stop()


def test_a_file_that_lost_its_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"short")
    following = Following(tmp_path / "data")
    with pytest.raises(OSError, match="is shorter than was written"):
        following.digest(100)
