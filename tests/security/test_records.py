"""Records of other machines, read by commands that hold a token: whatever they are, one line, and an exit code."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.cli import _main
from bot.errors import RecordError
from bot.records.artifacts import Failure, Report
from bot.state.reports import failures_in

BOMBS: dict[str, Callable[[Path], object]] = {
    "lists in lists": lambda p: p.write_text("[" * 1_000_000),
    "objects in objects": lambda p: p.write_text('{"a":' * 100_000 + "1" + "}" * 100_000),
    "no end": lambda p: p.symlink_to("/dev/zero"),
    "a hole of a terabyte": lambda p: p.open("wb").truncate(10**12),
    "a number of 5000 digits": lambda p: p.write_text("9" * 5000),
    "no text": lambda p: p.write_bytes(b"\xff\xfe{}"),
    "nothing": lambda p: p.touch(),
    "not a number": lambda p: p.write_text("NaN"),
}
READERS = {
    "comment": ("comment", "comparison.json", "--pull", "o/r#1"),
    "stage": ("stage", "comparison.json", "--namespace", "me"),
    "publish": ("publish", "comparison.json", "--namespace", "me"),
    "build": ("build", "comparison.json"),
    "announce": ("announce", "comparison.json"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="no links to devices")
@pytest.mark.parametrize("arguments", READERS.values(), ids=READERS)
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_record_that_is_a_bomb(
    folder: Path, arguments: tuple[str, ...], bomb: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    bomb(folder / "comparison.json")
    assert _main(list(arguments)) == RecordError.exit_code
    said = capsys.readouterr().err
    assert said.startswith("phi-bot: ")
    assert "comparison.json" in said
    assert len(said.splitlines()) == 2
    assert len(said) < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="no links to devices")
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_report_that_is_a_bomb(tmp_path: Path, bomb: Callable[[Path], object]) -> None:
    bomb(tmp_path / "report.json")
    if bomb is BOMBS["no end"]:
        assert failures_in(tmp_path) == (), "a folder's links are not followed"
        return
    with pytest.raises(RecordError, match="report"):
        failures_in(tmp_path)


def test_an_artifact_whose_records_are_bombs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "artifact").mkdir()
    BOMBS["lists in lists"](folder / "artifact" / "build.json")
    assert _main(["stage", "artifact", "--namespace", "me"]) == RecordError.exit_code
    assert "build.json" in capsys.readouterr().err


def test_half_a_character_in_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It can be written in JSON, and then neither be printed nor written to a file."""
    report = Report(
        failures=(Failure(release="a/b", variant="gguf/q8_0", step="build", message="?", hint="?", exit_code=37),)
    )
    text = json.dumps(report.to_json())
    (folder / "report.json").write_text(text)
    assert _main(["announce", "report.json"]) == 0
    (folder / "report.json").write_text(text.replace('"?"', '"\\ud800"'))
    assert _main(["announce", "report.json"]) == RecordError.exit_code
    assert "half a surrogate pair" in capsys.readouterr().err
