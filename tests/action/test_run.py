"""What a step makes of how phi-bot ended."""

import json
from pathlib import Path

import pytest

from bot.action.run import CommandResult, _environment, _fatal, _hand_on
from bot.records.artifacts import Report
from tests.action.log import commands
from tests.action.runner import read_pairs
from tests.action.test_outputs import FAILURE


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}


def test_an_error_of_phi_bots_is_taken_as_it_was_said() -> None:
    said = "Found a/b\nphi-bot: the disk is full\n         Free some.\n"
    assert _fatal(CommandResult(code=45, result="", said=said)) == ("the disk is full", "Free some.")


def test_the_last_error_is_the_one_that_ended_it() -> None:
    said = "phi-bot: quoted\n         by a model\nphi-bot: the disk is full\n         Free some.\n"
    assert _fatal(CommandResult(code=45, result="", said=said)) == ("the disk is full", "Free some.")


@pytest.mark.parametrize(
    ("code", "said", "message"),
    [
        (1, "Traceback (most recent call last):\n  File …\nValueError: oh\n", "ended with exit code 1: ValueError: oh"),
        (137, "", "ended with exit code 137: it said nothing"),
    ],
)
def test_a_bug_is_said_with_its_last_line(code: int, said: str, message: str) -> None:
    found = _fatal(CommandResult(code=code, result="", said=said))
    assert found is not None
    assert found[0] == f"phi-bot {message}"
    assert "report it" in found[1]


def test_a_run_that_printed_its_report_came_to_its_end() -> None:
    assert _fatal(CommandResult(code=3, result=json.dumps(Report(failures=(FAILURE,)).to_json()), said="")) is None


def test_failures_are_outputs_and_annotations(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.md").write_text("## Not published\n")
    report = Report(failures=(FAILURE,))
    _hand_on("run", CommandResult(code=44, result=json.dumps(report.to_json()), said=""), None, tmp_path, environ)
    outputs = read_pairs(Path(environ["GITHUB_OUTPUT"]).read_text())
    assert Report.from_json(json.loads(Path(outputs["report"]).read_text())) == report
    assert Path(environ["GITHUB_STEP_SUMMARY"]).read_text() == "## Not published\n"
    assert [c.properties["title"] for c in commands(capsys.readouterr().out)] == [
        "gguf/q4_k_m of microsoft/Phi-4@0123456789ab, verify"
    ]


def test_an_exit_code_without_a_reason_is_an_error_all_the_same(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.md").touch()
    _hand_on("conclude", CommandResult(code=3, result="{}", said=""), None, tmp_path, environ)
    (error,) = commands(capsys.readouterr().out)
    assert error.data.startswith("phi-bot ended with exit code 3\n")


def test_phi_bot_gets_tokens_and_none_of_the_runners_files(tmp_path: Path) -> None:
    environ = {"HF_TOKEN": "x", "PATH": "/bin", "GITHUB_OUTPUT": "o", "GITHUB_ENV": "e", "GITHUB_PATH": "p"}
    ours = {"INPUT_MODELS": "m", "GITHUB_STATE": "s", "GITHUB_STEP_SUMMARY": "theirs"}
    summary = tmp_path / "summary.md"
    found = _environment(environ | ours, summary)
    assert found == {"HF_TOKEN": "x", "PATH": "/bin", "GITHUB_STEP_SUMMARY": str(summary)}
