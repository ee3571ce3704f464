"""Run phi-bot as a step of a job: its progress in the log, what failed as annotations, its report as outputs.

It runs as a process of its own, so that outputs, summary and annotations come whatever becomes of it.
"""

import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bot import config
from bot.action import inputs, outputs
from bot.action.commands import arguments
from bot.action.inputs import Command, Inputs
from bot.cli import tables
from bot.errors import Interrupted, PhiBotError
from bot.printable import json_text, shown
from bot.records.artifacts import Json, MalformedRecordError, Report

_KEPT_LINES = 200  # of what was printed, to find the error in
_ERROR = re.compile(r"phi-bot: (?P<message>.+)\n {9}(?P<hint>.+)")
_BUG = "Please report it, with the log of this job."

# The bot's own files of the runner: what runs in the bot cannot set outputs or variables of the steps behind it.
_KEPT_BACK = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE")


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """The end of a run of phi-bot: its exit code, its printed result, and the last lines of its log."""

    code: int
    result: str
    said: str


def run(environ: Mapping[str, str]) -> int:
    """Run what the inputs ask for; set outputs, summary and annotations, however it ends. Return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="phi-bot-run-", dir=environ["RUNNER_TEMP"]))
    summary = folder / "summary.md"
    summary.touch()
    command: Command | None = None
    try:
        asked = inputs.read(environ)
        command = asked.command
        _require_namespace(asked, environ)
        ended = _phi_bot(arguments(asked), _environment(environ, summary), folder / "result.json")
        fatal = _fatal(ended)
    except PhiBotError as error:
        ended, fatal = CommandResult(code=error.exit_code, result="", said=""), (error.message, error.hint)
    _hand_on(command, ended, fatal, folder, environ)
    return ended.code


def _require_namespace(asked: Inputs, environ: Mapping[str, str]) -> None:
    """Raise ConfigError where something is to be published and nowhere to publish it: better now than after hours."""
    if asked.command == "run" and asked.publish != "no" and asked.namespace is None:
        settings = config.load(asked.config, environ=environ)
        settings.namespace(f"the input publish is {asked.publish}, and there is no namespace to publish in")


def _environment(environ: Mapping[str, str], summary: Path) -> dict[str, str]:
    """Return the environment of phi-bot: ours, tokens included, with a summary of its own."""
    kept = {k: v for k, v in environ.items() if not k.startswith("INPUT_") and k not in _KEPT_BACK}
    return kept | {"GITHUB_STEP_SUMMARY": str(summary)}


def _phi_bot(words: list[str], environ: dict[str, str], result: Path) -> CommandResult:
    """Run phi-bot to its end. What it says goes to the log line by line, its result to a file."""
    said: deque[str] = deque(maxlen=_KEPT_LINES)
    command = [sys.executable, "-I", "-X", "utf8", "-m", "bot.cli", *words]
    with result.open("wb") as out, outputs.folded(shlex.join(["phi-bot", *words])):
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        _pass_on_signals(process)
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        for line in process.stderr:
            said.append(line)
            outputs.say(shown(line.rstrip("\r\n")))
        code = process.wait()
        printed = result.read_text(encoding="utf-8", errors="replace")
        if printed.strip() and _json(printed) is None:  # it is for people
            outputs.say(shown(printed.rstrip()))
    return CommandResult(code=code if code >= 0 else 128 - code, result=printed, said="".join(said))


def _pass_on_signals(process: subprocess.Popen[str]) -> None:
    """Have phi-bot end as it does on Ctrl-C when the job is cancelled, and end with it."""

    def passed_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if sys.platform != "win32":  # there Ctrl-C reaches both
            signal.signal(number, passed_on)


def _fatal(ended: CommandResult) -> tuple[str, str] | None:
    """Return the error that ended phi-bot and what to do about it; None where it came to its end.

    One that was interrupted prints what is whole, and has not come to its end.
    """
    if ended.code == 0 or (_json(ended.result) is not None and ended.code != Interrupted.exit_code):
        return None
    if found := list(_ERROR.finditer(ended.said)):
        return found[-1]["message"], found[-1]["hint"]
    lines = [line.strip() for line in ended.said.splitlines() if line.strip()]
    what = lines[-1] if lines else "it said nothing"
    return f"phi-bot ended with exit code {ended.code}: {what}", _BUG


def _json(text: str) -> Json:
    """Return what a text says as JSON; None for one that is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _report(command: Command | None, ended: CommandResult) -> Report:
    """Return the report that phi-bot printed; an empty one for a command that prints none, or did not come to it."""
    if command in ("run", "promote", "propose", "conclude"):
        try:
            return Report.from_json(_json(ended.result))
        except MalformedRecordError:
            pass
    return Report()


def _entries(command: Command | None, ended: CommandResult) -> list[dict[str, str]]:
    value = _json(ended.result) if command == "plan" else None
    include = value.get("include") if isinstance(value, dict) else None
    return include if isinstance(include, list) else []


def _comparison(command: Command | None, ended: CommandResult, folder: Path) -> Path | str:
    if command != "compare" or not isinstance(_json(ended.result), dict):
        return ""
    file = folder / "comparison.json"
    file.write_text(ended.result, encoding="utf-8")
    return file


def _hand_on(
    command: Command | None,
    ended: CommandResult,
    fatal: tuple[str, str] | None,
    folder: Path,
    environ: Mapping[str, str],
) -> None:
    """Write outputs, summary and annotations. ``fatal`` is the one error that ended it, if one did."""
    report, entries, summary = _report(command, ended), _entries(command, ended), folder / "summary.md"
    report_file = folder / "report.json"
    report_file.write_text(f"{json_text(report.to_json(), indent=2)}\n", encoding="utf-8")
    with summary.open("a", encoding="utf-8") as file:
        if fatal is not None:
            file.write(outputs.failed(*fatal))
        elif command == "plan":
            file.write(outputs.matrix(entries))
    outputs.set_outputs(
        outputs.file_of(environ, "GITHUB_OUTPUT"),
        {
            "report": report_file,
            "artifacts": [artifact.folder for artifact in report.artifacts],
            "records": _records(report),
            "publications": [publication.url for publication in report.publications],
            "matrix": {"include": list(entries)},
            "empty": "false" if entries else "true",
            "summary": summary,
            "comparison": _comparison(command, ended, folder),
        },
    )
    outputs.add_summary(
        outputs.file_of(environ, "GITHUB_STEP_SUMMARY"), summary.read_text(encoding="utf-8", errors="replace")
    )
    if report != Report():
        with outputs.as_text():
            _show(report)
    if fatal is not None:
        outputs.error(*fatal)
    outputs.failures([f for f in report.failures if fatal is None or f.exit_code != Interrupted.exit_code])
    if ended.code and fatal is None and not report.failures:
        outputs.error(f"phi-bot ended with exit code {ended.code}", "docs/exit-codes.md says what it means.")


def _show(report: Report) -> None:
    """Print what the summary has in full: where files have come to, or else where they lie."""
    tables.publications(report)
    tables.proposals(report.proposals)
    tables.staged(report.staged)
    if not (report.publications or report.proposals or report.staged):
        tables.artifacts(report.artifacts)


def _records(report: Report) -> list[str]:
    """Return the paths of the records beside artifacts: how each was built, and what was measured on it."""
    files = [Path(a.folder) / name for a in report.artifacts for name in ("build.json", "evidence.json")]
    return [str(file) for file in files if file.is_file()]
