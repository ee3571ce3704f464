"""The protocol between a worker and the bot: a task as a JSON file in, events as JSON lines out.

Events on standard output, one JSON object a line:

    {"event": "progress", "what": "quantizing", "done": 3, "total": 40, "unit": "tensors"}
    {"event": "built", "variant": "gguf/q4_k_m", "seconds": 1.2, "peak_memory": 123456, "hashed": {"NAME": "SHA-256"},
     "solved": {"TENSOR": "SHA-256"},          of a calibrated build: see worker/calibrated.py
     "types_by_cost": {…}}                     of one whose tensors' types were chosen: a TypesByCost, or null
    {"event": "failed", "variant": "gguf/q2_k", "kind": "…", "message": "…"}
    {"event": "note", "message": "…"}          a line for the person
    {"event": "result", "value": …}            the last one of a worker that ended well
    {"event": "error", "kind": "…", "message": "…"}   the last one of any other; the kinds are those of ``Foreseen``,
                                               "disk" for a full one, and "toolchain" for whatever else is raised

A source that streams has events of its own, and answers to them on standard input: see worker/feed.py.

Whatever the toolchain's own libraries print, on either stream, goes to standard error, which the bot keeps in a log.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from bot.records.artifacts import Json, TypesByCost, Variant
from bot.records.tasks import Target
from bot.worker.disk import says_full


class Foreseen(Exception):  # noqa: N818 - one that is foreseen is not an error of the worker's
    """An exception that ends a worker for a known reason. The message is for people; ``kind`` is for the bot."""

    kind: ClassVar[str]


class SourceProblem(Foreseen):
    """The files of the source model are at fault, whatever reads them: no other format can do better."""

    kind = "weights"  # a safetensors file that is damaged or missing


class TokenizerProblem(SourceProblem):
    """A file of the tokenizer is missing or malformed."""

    kind = "tokenizer"


class TemplateProblem(SourceProblem):
    """The chat template cannot be rendered."""

    kind = "template"


class ConfigProblem(SourceProblem):
    """A value in a configuration file cannot be."""

    kind = "config"


class MisfitProblem(SourceProblem):
    """The weights are not those that config.json asks for."""

    kind = "misfit"


class NotFinite(SourceProblem):
    """The weights hold NaN or infinity, or give such numbers."""

    kind = "not finite"


class Unreadable(SourceProblem):
    """The library of the original, which everything is held against, cannot read the model."""

    kind = "unreadable"


class NotTaken(Foreseen):
    """This toolchain's own libraries do not take the model. Those of another format may."""

    kind = "not taken"


class NeedsWholeSource(Foreseen):
    """A streamed source does not do for this build. The message says why; the bot then fetches all of it."""

    kind = "whole"


FORESEEN: dict[str, type[Foreseen]] = {
    c.kind: c
    for c in (SourceProblem, TokenizerProblem, TemplateProblem, ConfigProblem, MisfitProblem, NotFinite, Unreadable)
} | {c.kind: c for c in (NotTaken, NeedsWholeSource)}


class Reporter:
    """Sends events to the bot. ``on_answer`` is called with each of the bot's answers, in a thread of its own."""

    def __init__(self, stream_fd: int) -> None:
        self._fd = stream_fd
        self.on_answer: Callable[[dict[str, Json]], None] = lambda _: None
        self._lock = threading.Lock()  # toolchains call back from their own threads
        self._last_progress = 0.0
        self._started = time.monotonic()

    def event(self, **values: Json) -> None:
        """Write one event."""
        line = (json.dumps(values) + "\n").encode()
        with self._lock:
            while line:
                line = line[os.write(self._fd, line) :]

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Say how far it is; at most ten times a second, and always at the end."""
        now = time.monotonic()
        if done < total and now - self._last_progress < 0.1:
            return
        self._last_progress = now
        self.event(event="progress", what=what, done=done, total=total, unit=unit)

    def note(self, message: str) -> None:
        """Say one line to the person."""
        self.event(event="note", message=message)

    def built(self, variant: Variant) -> None:
        """Say that all files of a variant are written. Its seconds are those since the last such event."""
        now = time.monotonic()
        seconds, self._started = now - self._started, now
        self.event(event="built", variant=variant.name, seconds=round(seconds, 3), peak_memory=peak_memory())

    def built_together(
        self,
        targets: Sequence[Target],
        hashed: Mapping[Path, str],
        solved: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        chosen: Mapping[str, TypesByCost] = MappingProxyType({}),
    ) -> None:
        """Say that all files of targets that were made in one pass are written. ``hashed`` are SHA-256, in hex.

        ``solved`` is what worker/calibrated.py keeps of those that are calibrated, by the names of their variants, and
        ``chosen`` are the types of those that choose them by what they cost.
        The share of each in the pass is not known: its seconds are divided by the bytes of their files.
        """
        now = time.monotonic()
        seconds, self._started = now - self._started, now
        sizes = [sum(f.stat().st_size for f in Path(t.out).iterdir()) for t in targets]
        for target, size in zip(targets, sizes, strict=True):
            share = seconds * size / max(sum(sizes), 1)
            own = {path.name: sha256 for path, sha256 in hashed.items() if path.parent == Path(target.out)}
            self.event(
                event="built",
                variant=target.variant.name,
                seconds=round(share, 3),
                peak_memory=peak_memory(),
                hashed=own,
                solved=dict(solved.get(target.variant.name, {})),
                types_by_cost=found.to_json() if (found := chosen.get(target.variant.name)) is not None else None,
            )

    def failed(self, variant: Variant, message: str, *, kind: str = "toolchain") -> None:
        """Say that a variant cannot be built; the worker goes on with the others. ``kind`` is as in an error."""
        self._started = time.monotonic()
        self.event(event="failed", variant=variant.name, kind=kind, message=message)


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says is at least what the bot had resident when it started this process
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def error_line(error: BaseException) -> str:
    """Say in one line what a library raised; where it says nothing, where that was."""
    text = " ".join(str(error).split())
    if not text:
        frames = list(traceback.walk_tb(error.__traceback__))
        frame, line = frames[-1] if frames else (None, 0)
        text = f"in {frame.f_code.co_name}, {Path(frame.f_code.co_filename).name}, line {line}" if frame else "no more"
    return f"{type(error).__name__}: {text}"


Command = Callable[[Json, Reporter], Json]


def main(commands: dict[str, Command]) -> None:
    """Run ``commands[argv[1]]`` on the task in the file ``argv[2]`` and exit: 0 after a result, 1 after an error."""
    reporter = Reporter(_take_stdout())
    _listen(reporter)
    command, task_file = sys.argv[1], sys.argv[2]
    task = json.loads(Path(task_file).read_text(encoding="utf-8"))
    with _errors_reported(reporter):
        reporter.event(event="result", value=commands[command](task, reporter))
    with suppress(OSError):  # all is done, even if the disk of the log is full
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # some toolchains crash or hang in their atexit handlers, after all is done


def _listen(reporter: Reporter) -> None:
    """Take the bot's answers, and end this process and its children when it dies: no converter may be left running.

    The bot holds the other end of standard input, so reading ends when it does. A worker that a person started by hand
    has another input, and stays.
    """
    if os.environ.get("PHI_BOT_HOLDS_STDIN") != "1":
        return

    def wait() -> None:
        with suppress(OSError), os.fdopen(os.dup(0), "rb") as answers:
            for line in answers:
                reporter.on_answer(json.loads(line))
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _take_stdout() -> int:
    """Keep standard output for events alone: native libraries write to it too."""
    fd = os.dup(1)
    os.dup2(2, 1)
    return fd


@contextmanager
def _errors_reported(reporter: Reporter) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a toolchain raises becomes one event
        if says_full(error):  # first: what is blamed on the source or the tool may be what a full disk did
            kind, message = "disk", error_line(error)
        elif isinstance(error, Foreseen):
            kind, message = error.kind, str(error)
        else:
            kind, message = "toolchain", error_line(error)
        reporter.event(event="error", kind=kind, message=message.strip())
        with suppress(OSError):  # the log may be on the disk that is full
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)
