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
    tables.variants(ROWS, (), None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ROWS) + 1
    for row, line in zip(ROWS, lines[1:], strict=True):
        assert re.match(rf"{re.escape(row.name)}  +{row.precision} ", line)
        assert line.rstrip().endswith(row.summary)


@pytest.mark.parametrize(("weights", "said"), [(None, "2.625 to 8.5"), (3_800_000_000, "1.2 GB to 4.0 GB")])
def test_a_row_that_takes_a_size_is_listed_behind_its_format_with_what_it_takes(
    weights: int | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.variants(ROWS, tuple(catalogue.sized_rows().values()), weights)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if said in line]
    assert names == ["gguf/fit:SIZE"]
    tables.variants(ROWS, tuple(catalogue.sized_rows().values()), weights)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[names.index("gguf/fit:SIZE") - 1 :][:3] == ["gguf/f32", "gguf/fit:SIZE", "onnx/cpu-int4"]


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
    assert [n for n in names if "/" in n and "SIZE" not in n] == [r.name for r in ROWS]
    words = [w for line in text.splitlines() for w in line.split()]
    assert all(word in words for row in ROWS for word in row.summary.split())
