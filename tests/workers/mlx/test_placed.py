"""Files that are written out of order: after a kill they go on from the last step that was whole."""

from pathlib import Path

import pytest

from bot.records import Json
from bot.workers.mlx import placed
from bot.workers.mlx.placed import Placed

SIZES = {"one": 6, "two": 4}


@pytest.fixture
def always_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "_MARK_BYTES", 1)


def begun(folder: Path, plan: Json = "plan") -> None:
    """Write two steps of three, the second of which was not marked."""
    with Placed(folder, SIZES, plan) as files:
        files.write("one", 4, b"56")
        files.mark(1)
        files.write("two", 0, b"abcd")


def test_parts_come_in_any_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Placed(tmp_path / "partial", SIZES, "plan") as files:
        assert files.done == 0
        assert files.write("one", 4, b"56") == 2
        files.write("two", 0, memoryview(bytearray(b"abcd")))
        files.write("one", 0, b"1234")
        files.finish(out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {"one": b"123456", "two": b"abcd"}
    assert list((tmp_path / "partial").iterdir()) == []


@pytest.mark.usefixtures("always_marked")
def test_they_go_on_from_the_last_mark(tmp_path: Path) -> None:
    begun(tmp_path / "partial")
    with Placed(tmp_path / "partial", SIZES, "plan") as files:
        assert files.done == 1
        files.write("two", 0, b"abcd")
        files.write("one", 0, b"1234")
        files.finish(tmp_path)
    assert (tmp_path / "one").read_bytes() == b"123456"


@pytest.mark.usefixtures("always_marked")
@pytest.mark.parametrize("harm", ["plan", "journal", "shorter", "missing"])
def test_what_is_of_no_use_is_made_anew(tmp_path: Path, harm: str) -> None:
    begun(tmp_path)
    if harm == "journal":
        (tmp_path / "placed.journal").write_text("{")
    elif harm == "shorter":
        (tmp_path / "one.part").write_bytes(b"short")
    elif harm == "missing":
        (tmp_path / "two.part").unlink()
    with Placed(tmp_path, SIZES, "another" if harm == "plan" else "plan") as files:
        assert files.done == 0
    assert {p.name: p.stat().st_size for p in tmp_path.glob("*.part")} == {"one.part": 6, "two.part": 4}


def test_marks_cost_nothing_until_there_is_much_to_lose(tmp_path: Path) -> None:
    begun(tmp_path)
    assert not (tmp_path / "placed.journal").exists()
    with Placed(tmp_path, SIZES, "plan") as files:
        assert files.done == 0
