"""Do something for a target in an interpreter of its own.

Some toolchains count their objects over the life of a process, and write the numbers into their files: only a fresh
process gives the same bytes whatever else is built. It also gives all memory back.
"""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from bot.records.artifacts import Json
from bot.records.tasks import BuildTask, Target
from bot.worker.disk import out_of_space
from bot.worker.harness import FORESEEN, Reporter

_LAUNCHER = Path(__file__).parent / "launch.py"


def run_alone(module: str, command: str, task: BuildTask, target: Target, report: Reporter) -> Json:
    """Run ``MODULE COMMAND`` for one target of a task, handing on its events; return what it returned.

    A target that the toolchain fails on, or dies of, fails alone: then it is None. Raises what is Foreseen, and
    OSError, as the child did.
    """
    with tempfile.TemporaryDirectory(dir=task.scratch) as scratch:
        alone = dataclasses.replace(task, targets=(target,), scratch=scratch)
        last, code = _run(module, command, alone, report)
        full = None if last is not None else out_of_space(Path(target.out))
    if full is not None:  # what its libraries died of
        raise full
    if last is None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        often = "; signal 9 often means too little memory" if code == -signal.SIGKILL else ""
        report.failed(target.variant, f"the builder {how}{often}")
    elif last["event"] == "error":
        _fail(target, last, report)
    else:
        return last["value"]
    return None


def _run(module: str, command: str, task: BuildTask, report: Reporter) -> tuple[dict[str, Json] | None, int]:
    file = Path(task.scratch) / "task.json"
    file.write_text(json.dumps(task.to_json()), encoding="utf-8")
    last: dict[str, Json] | None = None
    arguments = [sys.executable, "-I", str(_LAUNCHER), module, command, str(file)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101
        answers = process.stdin
        report.on_answer = lambda answer: _pass_on(answer, answers)
        for line in process.stdout:
            event: dict[str, Json] = json.loads(line)
            if event["event"] in ("result", "error"):
                last = event
            else:
                report.event(**event)
    return last, process.returncode


def _pass_on(answer: dict[str, Json], to: IO[bytes]) -> None:
    with suppress(OSError):  # it is gone, and its end says why
        to.write(json.dumps(answer).encode() + b"\n")
        to.flush()


def _fail(target: Target, error: dict[str, Json], report: Reporter) -> None:
    if error["kind"] in FORESEEN:
        raise FORESEEN[error["kind"]](error["message"])
    if error["kind"] == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target.out)
    report.failed(target.variant, error["message"])
