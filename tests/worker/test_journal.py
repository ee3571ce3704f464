"""A journal says what of a file is whole, and nothing that could be of another one."""

import json
import os
import time
from pathlib import Path

import pytest

from bot.records.artifacts import Json
from bot.records.digests import digest_of
from bot.worker import journal
from bot.worker.journal import Journal


def journal_of(folder: Path, plan: Json = "plan", least: int = 0) -> Journal:
    """The journal of ``folder / "data"``, whose marks hold for a part of at least so many bytes."""
    return Journal(folder, "data", plan, lambda _, size: size >= least)


def mark(folder: Path, data: bytes, said: Json, plan: Json = "plan") -> None:
    """Write bytes and mark them."""
    made = journal_of(folder, plan)
    with made.part.open("wb", buffering=0) as part:
        part.write(data)
        made.mark(part.fileno(), said)


def test_the_value_of_a_mark_is_read_again(tmp_path: Path) -> None:
    assert journal_of(tmp_path / "new").said is None
    mark(tmp_path, b"1234", {"size": 4})
    assert journal_of(tmp_path, least=4).said == {"size": 4}
    mark(tmp_path, b"123456", {"size": 6})
    assert journal_of(tmp_path, least=6).said == {"size": 6}


@pytest.mark.parametrize("harm", ["plan", "journal", "form", "shorter", "missing"])
def test_the_value_of_a_useless_mark_is_not_read_now_or_later(tmp_path: Path, harm: str) -> None:
    mark(tmp_path, b"1234", "all four")
    if harm == "journal":
        (tmp_path / "data.journal").write_text("{")
    elif harm == "form":
        (tmp_path / "data.journal").write_text(json.dumps({"plan": digest_of("plan"), "boot": None, "whole": 4}))
    elif harm == "shorter":
        (tmp_path / "data.part").write_bytes(b"123")
    elif harm == "missing":
        (tmp_path / "data.part").unlink()
    another = journal_of(tmp_path, "another" if harm == "plan" else "plan", least=4)
    assert another.said is None
    another.part.write_bytes(b"else")  # and is killed before its first mark
    assert journal_of(tmp_path, least=4).said is None


def test_a_mark_is_due_when_a_kill_would_cost_much_or_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    made = journal_of(tmp_path)
    assert not made.due((256 << 20) - 1)
    assert made.due(256 << 20)
    clock[0] += 5
    assert made.due(1)
    with made.part.open("wb") as part:
        made.mark(part.fileno(), "nothing yet")
    assert not made.due(1)


def test_a_mark_holds_until_the_system_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_boot", lambda: "before")
    mark(tmp_path, b"1234", "four")
    assert journal_of(tmp_path).said == "four"
    monkeypatch.setattr(journal, "_boot", lambda: "after")
    assert journal_of(tmp_path).said is None


def test_where_the_system_does_not_say_bytes_are_on_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_boot", lambda: None)
    mark(tmp_path, b"1234", "four")
    seen: list[tuple[int, Json]] = []
    synced = os.fsync

    def noting(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, journal_of(tmp_path).said))
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    mark(tmp_path, b"123456", "six")
    assert seen == [(6, "four")]
    assert journal_of(tmp_path).said == "six"


def test_a_file_that_is_finished_or_given_up_leaves_nothing_beside(tmp_path: Path) -> None:
    for end in ("finish", "discard"):
        folder = tmp_path / end
        mark(folder, b"1234", "four")
        made = journal_of(folder)
        made.finish(tmp_path / "whole") if end == "finish" else made.discard()
        assert list(folder.iterdir()) == []
    assert (tmp_path / "whole").read_bytes() == b"1234"


def test_a_kill_while_a_mark_is_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark(tmp_path, b"1234", "four")
    monkeypatch.setattr(Path, "replace", _killed)
    with pytest.raises(_KilledError):
        mark(tmp_path, b"123456", "six")
    assert journal_of(tmp_path).said == "four"


class _KilledError(Exception):
    pass


def _killed(*_: object) -> None:
    raise _KilledError
