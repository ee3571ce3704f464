"""Tables: what they say can be read on a narrow terminal, and looked for in a pipe."""

import os
import re
import subprocess
import sys

import pytest

from bot import catalogue
from bot.cli import tables

ROWS = tuple(catalogue.all_variants().values())


def test_a_pipe_gets_every_row_on_one_whole_line(capsys: pytest.CaptureFixture[str]) -> None:
    tables.variants(ROWS, None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ROWS) + 1
    for row, line in zip(ROWS, lines[1:], strict=True):
        assert re.match(rf"{re.escape(row.name)}  +{row.precision} ", line)
        assert line.rstrip().endswith(row.summary)


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_terminal_gets_every_word_whole(columns: int) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bot.cli", "variants"],
        stdout=theirs,
        env=os.environ | {"COLUMNS": str(columns), "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    names = [line.split()[0] for line in text.splitlines() if line[:1].strip()]
    assert [n for n in names if "/" in n] == [r.name for r in ROWS]
    words = [w for line in text.splitlines() for w in line.split()]
    assert all(word in words for row in ROWS for word in row.summary.split())
