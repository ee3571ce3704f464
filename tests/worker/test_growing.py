"""A file that grows: after a kill it goes on from what was whole, and from nothing where that is of no use."""

import hashlib
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bot.records.artifacts import Json
from bot.worker import journal
from bot.worker.growing import GrowingFile

PIECES = [bytes([n]) * 1000 for n in range(10)]


def write(folder: Path, pieces: list[bytes], plan: Json = "plan") -> int:
    """Write what is missing of a file of these pieces, and return where it began."""
    with GrowingFile(folder, "data", plan) as file:
        first = file.start
        for number, piece in enumerate(pieces):
            if sum(map(len, pieces[: number + 1])) > first:
                file.write(piece)
                file.mark({"pieces": number + 1}, now=True)
    return first


def test_a_file_is_written_and_named(tmp_path: Path) -> None:
    with GrowingFile(tmp_path / "partial", "data", "plan") as file:
        assert (file.start, file.state) == (0, None)
        for piece in PIECES:
            file.write(piece)
            file.mark()
        assert file.finish(tmp_path / "whole") == hashlib.sha256(b"".join(PIECES)).hexdigest()
    assert (tmp_path / "whole").read_bytes() == b"".join(PIECES)
    assert list((tmp_path / "partial").iterdir()) == []


def test_it_goes_on_from_the_last_mark(tmp_path: Path) -> None:
    with GrowingFile(tmp_path, "data", "plan") as file:
        file.write(b"whole")
        file.mark({"pieces": 1}, now=True)
        file.write(b"half")
    with GrowingFile(tmp_path, "data", "plan") as file:
        assert (file.start, file.state) == (5, {"pieces": 1})
        file.write(b" more")
        assert file.finish(tmp_path / "whole") == hashlib.sha256(b"whole more").hexdigest()
    assert (tmp_path / "whole").read_bytes() == b"whole more"


@pytest.mark.parametrize("harm", ["plan", "journal", "shorter", "none"])
def test_a_useless_partial_file_is_written_again(tmp_path: Path, harm: str) -> None:
    write(tmp_path, PIECES[:5])
    if harm == "journal":
        (tmp_path / "data.journal").write_text("{")
    elif harm == "shorter":
        (tmp_path / "data.part").write_bytes(b"short")
    elif harm == "none":
        (tmp_path / "data.journal").unlink()
    assert write(tmp_path, PIECES, plan="another" if harm == "plan" else "plan") == 0
    assert (tmp_path / "data.part").read_bytes() == b"".join(PIECES)


def test_marks_cost_nothing_until_there_is_much_to_lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MARK_BYTES", 10)
    with GrowingFile(tmp_path, "data", "plan") as file:
        file.write(b"little")
        file.mark()
        assert not (tmp_path / "data.journal").exists()
        file.write(b"more")
        file.mark("a mark")
        file.write(b"little")
        file.mark("another")
    with GrowingFile(tmp_path, "data", "plan") as file:
        assert (file.start, file.state) == (10, "a mark")


def test_another_plan_leaves_nothing_that_the_first_would_go_on_from(tmp_path: Path) -> None:
    write(tmp_path, PIECES[:5])
    with GrowingFile(tmp_path, "data", "another") as file:
        file.write(bytes(6000))  # and is killed before its first mark
    assert write(tmp_path, PIECES) == 0
    assert (tmp_path / "data.part").read_bytes() == b"".join(PIECES)


def test_bytes_written_through_the_descriptor_count(tmp_path: Path) -> None:
    import os

    with GrowingFile(tmp_path, "data", "plan") as file:
        file.write(b"one ")
        file.wrote(os.write(file.fileno(), b"two "))
        file.write(b"three")
        file.finish(tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == b"one two three"


@pytest.mark.process
def test_a_writer_that_is_killed_at_any_moment_leaves_the_same_bytes(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import random, sys, time
        from pathlib import Path
        from bot.worker.growing import GrowingFile
        with GrowingFile(Path(sys.argv[1]), "data", "plan") as file:
            for number in range(file.start // 1000, 3000):
                file.write(random.Random(number).randbytes(1000))
                file.mark(now=number % 7 == 0)
                time.sleep(0.0003)
            file.finish(Path(sys.argv[1]) / "whole")
    """)
    moment, killed = random.Random(1), 0
    for _ in range(200):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path])
        try:
            process.wait(0.1 + 0.3 * moment.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed >= 3
    assert (tmp_path / "whole").read_bytes() == b"".join(random.Random(n).randbytes(1000) for n in range(3000))
