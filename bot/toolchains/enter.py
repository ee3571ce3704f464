"""Enter a toolchain: run a worker in it, follow its events, and leave nothing running."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot import devices
from bot.errors import (
    BuildError,
    ChatTemplateError,
    ConfigValueError,
    DamagedTokenizerError,
    DamagedWeightsError,
    DiskFullError,
    FormatRefusedError,
    MisfitError,
    NotFiniteError,
    PhiBotError,
    UnreadableModelError,
    WorkerLimitError,
)
from bot.records.artifacts import Json, Record
from bot.system import disk, temporary
from bot.toolchains import Toolchain
from bot.toolchains.printed import Printed
from bot.toolchains.watch import LimitWatch, WorkerLimits

Answer = Callable[[dict[str, Json]], None]  #: sends a worker a line; one that has ended hears nothing

LAUNCHER = Path(__file__).parents[1] / "worker" / "launch.py"


class WholeSourceError(BuildError):
    """A worker needs more of the source than one that streams. The message says why."""


#: What a worker ends with that is foreseen, by the ``kind`` of harness.Foreseen: the error, and what to do.
FORESEEN: dict[str, tuple[type[PhiBotError], str]] = {
    "weights": (DamagedWeightsError, "Download or save the model again."),
    "tokenizer": (DamagedTokenizerError, "Download or save the tokenizer again."),
    "template": (ChatTemplateError, "Take the chat template of the original model, or fix this one."),
    "config": (ConfigValueError, "Set it to what the original model has."),
    "misfit": (MisfitError, "Put the config.json that was saved with the weights beside them."),
    "not finite": (NotFiniteError, "Save the model again from a checkpoint without such numbers."),
    "unreadable": (UnreadableModelError, "Load it with transformers, without its own code, and fix what it reports."),
    "not taken": (FormatRefusedError, "Other formats may take it."),
    "whole": (WholeSourceError, ""),
}

# What a child may see of our environment. A list of what is allowed, not of what is forbidden: tokens have many names.
PASSED_ON = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TMPDIR",
        "TEMP",
        "TMP",
        "SYSTEMROOT",
        "WINDIR",
    }
    | {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "NUMBER_OF_PROCESSORS"}
    | devices.environment()
)
_SET = {
    "HF_HUB_OFFLINE": "1",  # a tokenizer config may name another repo: it is not fetched
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's, which writes a device id into the home folder on import
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUTF8": "1",
    "OMP_WAIT_POLICY": "passive",  # on a machine with other work, threads that spin cost ten times the time
    "OPENBLAS_THREAD_TIMEOUT": "4",  # ... those of numpy's BLAS too, which do for 10 ms after each product
}


class Ending:
    """Ends workers that other threads run: Ctrl-C arrives in the main thread alone."""

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._kills: list[Callable[[], None]] = []
        self._over = False

    def add(self, kill: Callable[[], None]) -> None:
        """Have a worker ended too: now, if all were told to end before it began."""
        with self._alone:
            self._kills.append(kill)
            if self._over:
                kill()

    def end(self) -> None:
        """End all workers, and those that begin later. One that has ended is left alone."""
        with self._alone:
            self._over = True
            for kill in self._kills:
                kill()


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """Following, answering and ending a worker.

    ``log`` receives all that the toolchain prints, as text that steers no terminal. ``on_event`` is called for each
    event but the last; what answers them gets the means to at the beginning, by ``on_start``, and may use it from any
    thread. A worker that passes its ``limits`` is killed, and so is one that is told to end by ``ending``.
    """

    log: Path
    on_event: Callable[[dict[str, Json]], None]
    on_start: Callable[[Answer], None] = lambda _: None
    limits: WorkerLimits | None = None
    ending: Ending | None = None


def run_worker(toolchain: Toolchain, module: str, command: str, task: Record, supervision: Supervision) -> Json:
    """Run ``python -m MODULE COMMAND`` of a worker inside a toolchain and return its result.

    The worker and its children are killed when this function is left by an exception, Ctrl-C among them, and as their
    ``supervision`` says.

    Raises a SourceError when the worker finds the source at fault, FormatRefusedError when its toolchain does not take
    the model, WorkerLimitError when it passes a limit, DiskFullError when the disk fills up, WholeSourceError where it
    needs more of the source than one that streams, and BuildError when it fails or dies in any other way; the hint ends
    with where the log is.
    """
    what, log = f"{toolchain.name} {command}", supervision.log
    log.parent.mkdir(parents=True, exist_ok=True)
    with disk.disk_errors(what, log.parent), temporary.folder() as folder, log.open("ab", buffering=0) as kept:
        task_file = folder / "task.json"
        with disk.disk_errors(what, folder):
            task_file.write_text(json.dumps(task.to_json()), encoding="utf-8")
        process = subprocess.Popen(
            [str(toolchain.python), "-I", str(LAUNCHER), module, command, str(task_file)],
            stdin=subprocess.PIPE,  # for answers; its end tells the worker that we are gone
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=child_environment(str(folder)),
            start_new_session=True,
        )
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        printed = Printed(process.stderr, kept)
        watch = LimitWatch(process, supervision.limits, partial(_kill, process))
        if supervision.ending is not None:
            supervision.ending.add(partial(_kill, process))
        try:
            supervision.on_start(_answering(process))
            last = _follow(process, printed, supervision.on_event)
            code = process.wait()
            printed.wait()
        except BaseException:
            _kill(process)
            raise
        finally:
            watch.close()
        if watch.over and (last is None or last["event"] != "result"):
            raise _over(what, watch.over, log)
        if last is not None and last["event"] == "result":
            return last["value"]
        error = _failure(what, last, code, log)
        where = disk.without_room(log.parent, folder)
        if isinstance(error, DiskFullError):
            raise disk.disk_full_error(what, where or log.parent, said=error.message)
        if type(error) is BuildError and where is not None:
            # A library that aborts, or has words of its own for it. What is half-made is still there, and tells.
            raise disk.disk_full_error(what, where) from error
        raise error


def _over(what: str, over: str, log: Path) -> WorkerLimitError:
    return WorkerLimitError(
        f"{what} was stopped: {over}",
        hint="No such model needs so much. On a very slow machine PHI_BOT_WORKER_LIMITS=10 allows ten times as much."
        f" The toolchain's own output is in {log}.",
    )


def _answering(process: subprocess.Popen[bytes]) -> Answer:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    stream, alone = process.stdin, threading.Lock()

    def answer(value: dict[str, Json]) -> None:
        with alone, suppress(OSError, ValueError):  # it is gone; how it ended is told elsewhere
            stream.write(json.dumps(value).encode() + b"\n")
            stream.flush()

    return answer


def child_environment(scratch: str) -> dict[str, str]:
    """Return the environment of a worker: no token, no network for model files, no Python settings of ours."""
    passed = {k: v for k, v in os.environ.items() if k.upper() in PASSED_ON}
    return passed | _SET | {"HF_HOME": str(Path(scratch) / "hf"), "PHI_BOT_HOLDS_STDIN": "1"}


def _follow(
    process: subprocess.Popen[bytes], printed: Printed, on_event: Callable[[dict[str, Json]], None]
) -> dict[str, Json] | None:
    last: dict[str, Json] | None = None
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    for line in process.stdout:
        event = _event(line)
        if event is None:  # printed by a library, before the worker took standard output for itself
            printed.add(line)
        elif event["event"] in ("result", "error"):
            last = event
        else:
            on_event(event)
    return last


def _event(line: bytes) -> dict[str, Json] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None


def _failure(what: str, last: dict[str, Json] | None, code: int, log: Path) -> PhiBotError:
    see = f"The toolchain's own output is in {log}."
    if last is None:
        died = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        hint = "Signal 9 often means too little memory. " if code == -signal.SIGKILL else ""
        return BuildError(f"{what} {died} without a result", hint=hint + see)
    message = str(last["message"])
    if last["kind"] in FORESEEN:
        kind, do = FORESEEN[last["kind"]]
        return kind(message, hint=f"{do} {see}".lstrip())
    if last["kind"] == "disk":
        return DiskFullError(message, hint=disk.FREE)
    return BuildError(f"{what}: {message}", hint=see)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    # Do not hang on a reader of a pipe that a grandchild still holds.
    threading.Thread(target=process.wait, daemon=True).start()
