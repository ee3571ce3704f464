"""A file whose parts are written in any order: after a kill it goes on with those that were not whole."""

from pathlib import Path

import pytest

from bot.records import Json
from bot.workers import journal
from bot.workers.placed import Placed


@pytest.fixture
def always_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MARK_BYTES", 1)


def begun(folder: Path, plan: Json = "plan") -> None:
    """Write two parts of three, the second of which was not marked."""
    with Placed(folder, "data", 10, plan) as file:
        file.write(b"56", 4)
        file.mark("middle", 2)
        file.write(b"abcd", 6)


def test_parts_come_in_any_order(tmp_path: Path) -> None:
    with Placed(tmp_path / "partial", "data", 10, "plan") as file:
        assert file.whole == set()
        file.write(b"56", 4)
        file.write(memoryview(bytearray(b"abcd")), 6)
        file.write(b"1234", 0)
        file.finish(tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"123456abcd"
    assert list((tmp_path / "partial").iterdir()) == []


@pytest.mark.usefixtures("always_marked")
def test_they_go_on_with_what_was_not_marked(tmp_path: Path) -> None:
    begun(tmp_path / "partial")
    with Placed(tmp_path / "partial", "data", 10, "plan") as file:
        assert file.whole == {"middle"}
        file.write(b"abcd", 6)
        file.write(b"1234", 0)
        file.finish(tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"123456abcd"


@pytest.mark.usefixtures("always_marked")
@pytest.mark.parametrize("harm", ["plan", "journal", "shorter", "missing"])
def test_what_is_of_no_use_is_made_anew(tmp_path: Path, harm: str) -> None:
    begun(tmp_path)
    if harm == "journal":
        (tmp_path / "data.journal").write_text("{")
    elif harm == "shorter":
        (tmp_path / "data.part").write_bytes(b"short")
    elif harm == "missing":
        (tmp_path / "data.part").unlink()
    with Placed(tmp_path, "data", 10, "another" if harm == "plan" else "plan") as file:
        assert file.whole == set()
    assert (tmp_path / "data.part").read_bytes() == bytes(10)


@pytest.mark.usefixtures("always_marked")
def test_another_plan_leaves_nothing_that_the_first_would_go_on_from(tmp_path: Path) -> None:
    begun(tmp_path)
    with Placed(tmp_path, "data", 10, "another"):
        pass  # it is killed before its first mark
    with Placed(tmp_path, "data", 10, "plan") as file:
        assert file.whole == set()


def test_marks_cost_nothing_until_there_is_much_to_lose(tmp_path: Path) -> None:
    begun(tmp_path)
    assert not (tmp_path / "data.journal").exists()
    with Placed(tmp_path, "data", 10, "plan") as file:
        assert file.whole == set()
