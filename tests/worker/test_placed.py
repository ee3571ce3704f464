"""A file whose parts are written in any order: after a kill it goes on with those that were not whole."""

import hashlib
import random
from pathlib import Path

import pytest

from bot.records.artifacts import Json
from bot.worker import journal
from bot.worker.placed import PlacedFile

PARTS = {"first": (0, 4), "middle": (4, 6), "last": (6, 10)}


@pytest.fixture
def always_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MARK_BYTES", 1)


def begun(folder: Path, plan: Json = "plan") -> None:
    """Write two parts of three, the second of which was not marked."""
    with PlacedFile(folder, "data", 10, plan, PARTS) as file:
        file.write(b"56", 4)
        file.mark("middle")
        file.write(b"abcd", 6)


def test_parts_come_in_any_order(tmp_path: Path) -> None:
    with PlacedFile(tmp_path / "partial", "data", 10, "plan", PARTS) as file:
        assert file.whole == set()
        file.write(b"56", 4)
        file.write(memoryview(bytearray(b"abcd")), 6)
        file.write(b"1234", 0)
        assert file.finish(tmp_path / "data") == hashlib.sha256(b"123456abcd").hexdigest()
    assert (tmp_path / "data").read_bytes() == b"123456abcd"
    assert list((tmp_path / "partial").iterdir()) == []


@pytest.mark.usefixtures("always_marked")
def test_they_go_on_with_the_parts_that_were_not_marked(tmp_path: Path) -> None:
    begun(tmp_path / "partial")
    with PlacedFile(tmp_path / "partial", "data", 10, "plan", PARTS) as file:
        assert file.whole == {"middle"}
        file.write(b"abcd", 6)
        file.write(b"1234", 0)
        assert file.finish(tmp_path / "data") == hashlib.sha256(b"123456abcd").hexdigest()
    assert (tmp_path / "data").read_bytes() == b"123456abcd"


@pytest.mark.usefixtures("always_marked")
@pytest.mark.parametrize("harm", ["plan", "journal", "shorter", "missing"])
def test_a_useless_partial_file_is_begun_again(tmp_path: Path, harm: str) -> None:
    begun(tmp_path)
    if harm == "journal":
        (tmp_path / "data.journal").write_text("{")
    elif harm == "shorter":
        (tmp_path / "data.part").write_bytes(b"short")
    elif harm == "missing":
        (tmp_path / "data.part").unlink()
    with PlacedFile(tmp_path, "data", 10, "another" if harm == "plan" else "plan", PARTS) as file:
        assert file.whole == set()
    assert (tmp_path / "data.part").read_bytes() == bytes(10)


@pytest.mark.usefixtures("always_marked")
def test_another_plan_leaves_nothing_that_the_first_would_go_on_from(tmp_path: Path) -> None:
    begun(tmp_path)
    with PlacedFile(tmp_path, "data", 10, "another", PARTS):
        pass  # it is killed before its first mark
    with PlacedFile(tmp_path, "data", 10, "plan", PARTS) as file:
        assert file.whole == set()


def test_marks_cost_nothing_until_there_is_much_to_lose(tmp_path: Path) -> None:
    begun(tmp_path)
    assert not (tmp_path / "data.journal").exists()
    with PlacedFile(tmp_path, "data", 10, "plan", PARTS) as file:
        assert file.whole == set()


@pytest.mark.usefixtures("always_marked")
def test_it_is_hashed_as_it_grows_whatever_the_order_and_whatever_lies_between_its_parts(tmp_path: Path) -> None:
    parts = {str(n): (100 + 1000 * n, 1050 + 1000 * n) for n in range(50)}
    order = random.Random(1).sample(sorted(parts), len(parts))
    digest = ""
    for some in (order[:20], order[20:]):  # the second time it goes on
        with PlacedFile(tmp_path / "partial", "data", 51_000, "plan", parts) as file:
            file.write(b"h" * 100, 0)
            for part in some:
                file.write((part * 950)[:950].encode(), parts[part][0])
                file.mark(part)
            if some == order[20:]:
                digest = file.finish(tmp_path / "data")
    assert digest == hashlib.sha256((tmp_path / "data").read_bytes()).hexdigest()
