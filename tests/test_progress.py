"""Progress: bars on a terminal, plain lines on everything else, and never anything on standard output."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bot import progress
from bot.printable import duration, size
from bot.progress import Bars, Lines, display, progress_text
from bot.system import heartbeat

LONG_WORK = """
import sys, time
from bot.progress import display
show = display(quiet="quiet" in sys.argv)
show.say("Found microsoft/Phi-4 :+1: [bold]")
with show.task("Building gguf/q4_k_m") as task:
    task.update("converting", 10, 40, "tensors")
    time.sleep(0.3)
    task.update("writing", 1_500_000, 0, "bytes")
    print("result")
    with show.task("Downloading") as inner:
        inner.update("config.json", 1, 2, "files")
        time.sleep(0.3)
if "wait" in sys.argv:
    with show.task("Waiting"):
        show.say("ready")
        time.sleep(60)
"""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR", "TERM", "COLUMNS", "LINES")}
    return kept | {"PYTHONPATH": str(Path(progress.__file__).parent.parent), "PYTHONUTF8": "1"} | changes


def _piped(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LONG_WORK, *arguments],
        capture_output=True,
        encoding="utf-8",
        env=_environment(**environment),
        timeout=60,
        check=True,
    )


# ---- on a pipe -----------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"TERM": "xterm-256color", "CLICOLOR_FORCE": "1"}])
def test_a_pipe_gets_plain_lines(environment: dict[str, str]) -> None:
    done = _piped(**environment)
    assert done.stdout == "result\n"
    assert not CONTROL.search(done.stderr)
    assert [re.sub(r"\d\.\d s", "N s", line) for line in done.stderr.splitlines()] == [
        "Found microsoft/Phi-4 :+1: [bold]",
        "Building gguf/q4_k_m …",
        "Downloading …",
        "Downloading: done in N s",
        "Building gguf/q4_k_m: done in N s",
    ]


@pytest.mark.process
def test_quiet_is_silent() -> None:
    done = _piped("quiet")
    assert (done.stdout, done.stderr) == ("result\n", "")


def _lines() -> tuple[Lines, io.StringIO]:
    file = io.StringIO()
    return Lines(Console(file=file)), file


def test_long_work_says_how_far_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.2)
    lines, file = _lines()
    began = time.monotonic()
    with lines.task("Building") as task:
        for done in range(1, 7):
            time.sleep(0.1)
            task.update("converting", done, 0, "tensors")
    took = time.monotonic() - began  # more than it sleeps, on a busy machine
    told = [line for line in file.getvalue().splitlines() if "converting" in line]
    assert 1 <= len(told) <= max(3, took / 0.2)
    assert re.fullmatch(r"Building: converting [1-6] tensors", told[0])


def test_silent_work_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 0.2)
    lines, file = _lines()
    with lines.during("phi-bot run"):
        time.sleep(0.3)
        with lines.task("Building") as task:
            task.update("converting", 1, 4, "tensors")
            time.sleep(0.5)
        time.sleep(0.3)
    told = [re.sub(r"\d\.\d s", "N s", line) for line in file.getvalue().splitlines()]
    assert list(dict.fromkeys(told)) == [
        "phi-bot run; N s so far",
        "Building …",
        "Building: converting 1 of 4 tensors; N s so far",
        "Building: done in N s",
    ]
    assert told[-1] == "phi-bot run; N s so far"
    assert told.count("Building: converting 1 of 4 tensors; N s so far") == 2
    time.sleep(0.3)
    assert len(file.getvalue().splitlines()) == len(told)  # it ends with the work


def test_work_that_says_something_needs_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 0.3)
    lines, file = _lines()
    longest = 0.0  # that it says nothing: longer than it sleeps, on a busy machine
    with lines.during("phi-bot run"), lines.task("Building"):
        for _ in range(6):
            before = time.monotonic()
            time.sleep(0.1)
            lines.say("a line")
            longest = max(longest, time.monotonic() - before)
    assert "so far" not in file.getvalue() or longest > 0.2


def test_a_terminal_gets_a_sign_of_life_where_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 0.2)
    file = io.StringIO()
    bars = Bars(Console(file=file, force_terminal=True, width=100))
    with bars.during("phi-bot run"):
        with bars.task("Building"):
            time.sleep(0.5)
        assert "so far" not in file.getvalue()
        assert re.search(r"0:00:0\d", file.getvalue())  # the bar has a clock
        time.sleep(0.3)
    assert re.search(r"phi-bot run; \d\.\d s so far", file.getvalue())


def test_the_heartbeat_ends_when_its_output_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 0.05)
    lines, file = _lines()
    with lines.during("phi-bot run"):
        file.close()
        time.sleep(0.2)
        assert not [t for t in threading.enumerate() if getattr(t, "_target", None) == lines._heartbeat._beat]


def test_work_that_fails_is_not_called_done() -> None:
    lines, file = _lines()
    with pytest.raises(ZeroDivisionError), lines.task("Building"):
        raise ZeroDivisionError
    assert file.getvalue() == "Building …\n"


def test_a_long_line_stays_one_line() -> None:
    lines, file = _lines()
    lines.say("x" * 500)
    assert file.getvalue() == "x" * 500 + "\n"


def test_a_strangers_text_cannot_control_the_terminal() -> None:
    lines, file = _lines()
    with lines.task("Building \x1b]0;owned\x07"):
        lines.say("one\ntwo\r\x1b[2Jthree\x9b1m\u202e")
    assert not CONTROL.search(file.getvalue())
    assert len(file.getvalue().splitlines()) == 3
    assert not re.search("[\x80-\x9f\u202e]", file.getvalue())


# ---- on a terminal -------------------------------------------------------------------------------------------

if sys.platform != "win32":
    import pty

    @pytest.fixture
    def terminal() -> Iterator[tuple[int, int]]:
        ours, theirs = pty.openpty()
        yield ours, theirs
        os.close(ours)

    def _run(terminal: tuple[int, int], *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        started = subprocess.Popen(
            [sys.executable, "-c", LONG_WORK, *arguments],
            stdout=subprocess.PIPE,
            stderr=terminal[1],
            encoding="utf-8",
            env=_environment(**{"TERM": "xterm-256color", "COLUMNS": "100"} | environment),
        )
        os.close(terminal[1])
        return started

    def _read(fd: int, until: str = "") -> str:
        """Return what was written to a terminal, up to a text or to the end."""
        data = b""
        while not until or until not in data.decode("utf-8", "replace"):
            try:
                chunk = os.read(fd, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            data += chunk
        return data.decode()

    @pytest.mark.process
    def test_a_terminal_gets_bars_that_leave_lines_behind(terminal: tuple[int, int]) -> None:
        process = _run(terminal)
        shown = _read(terminal[0])
        stdout, _ = process.communicate(timeout=60)
        assert stdout == "result\n"
        assert "━" in shown
        assert re.search(r"Building gguf/q4_k_m: converting.*10 of 40 tensors", shown)
        assert re.search(r"Building gguf/q4_k_m: writing.*1\.5 MB", shown)
        assert re.search(r"Downloading: config\.json.*1 of 2 files", shown)
        assert "Found microsoft/Phi-4 :+1: [bold]" in shown
        assert re.search(r"Downloading: done in \d\.\d s", shown)
        last = shown.rsplit("\x1b[2K", 1)[-1]
        assert re.search(r"Building gguf/q4_k_m: done in \d\.\d s\r\n$", last)
        assert "━" not in last
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back

    @pytest.mark.process
    def test_an_interruption_gives_the_cursor_back(terminal: tuple[int, int]) -> None:
        process = _run(terminal, "wait")
        shown = _read(terminal[0], until="ready")
        process.send_signal(signal.SIGINT)
        shown += _read(terminal[0])
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert "\x1b[?25l" in shown
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
        assert "Waiting: done" not in shown

    @pytest.mark.process
    def test_a_terminal_without_a_cursor_gets_lines(terminal: tuple[int, int]) -> None:
        process = _run(terminal, TERM="dumb")
        shown = _read(terminal[0]).replace("\r\n", "\n")
        process.communicate(timeout=60)
        assert "Downloading …\n" in shown
        assert not CONTROL.search(shown)


def test_a_bar_forgets_the_length_of_the_work_before() -> None:
    bars = Bars(Console(file=io.StringIO(), force_terminal=True, width=100))
    with bars.task("Building") as task:
        task.update("converting", 40, 40, "tensors")
        task.update("importing", 0, 0, "files")
        assert isinstance(task, progress._BarTask)
        (bar,) = task._progress.tasks
        assert (bar.total, bar.completed, bar.finished) == (None, 0, False)
        task.update("importing", 1, 4, "files")
        (bar,) = task._progress.tasks
        assert (bar.total, bar.completed) == (4, 1)


def test_standard_error_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(display(quiet=True), progress.Silent)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(display(), Lines)


# ---- numbers for people --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (7_600_000_000, "7.6 GB"),
        (2.5e15, "2500.0 TB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


@given(st.floats(0, 9e14))
def test_a_size_has_at_most_three_digits_before_its_point_and_is_right(count: float) -> None:
    number, unit = size(count).split()
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number) < 1000
    assert abs(float(number) * factor - count) <= factor * (0.5 if unit == "B" else 0.0501)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_amounts() -> None:
    assert progress_text(3, 40, "tensors") == "3 of 40 tensors"
    assert progress_text(3, 0, "tensors") == "3 tensors"
    assert progress_text(1_500_000, 3_000_000, "bytes") == "1.5 MB of 3.0 MB"
    assert progress_text(1_500_000, 0, "bytes") == "1.5 MB"
