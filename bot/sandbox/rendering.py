"""Chat templates of strangers are rendered in a child process with limits, whatever engine renders them.

A template is a program: it may loop for ever, write gigabytes, or know a way out of a sandbox that nobody else knows
yet. So whoever wants a text of one asks here. The child is one of ``bot/worker`` that ends with ``renderer.main``: it
loads its engine, sets its limits, and renders one conversation after the other. It can open no file, and finds nothing
of ours in its environment. Imports only the standard library, and is used by the bot and by workers alike.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bot.printable import logged
from bot.records.artifacts import Json
from bot.system.processes import own_memory

WALL_SECONDS = 600.0  # for loading as well: a machine may be ten times slower than ours, and have other work
OWN_BYTES = 2 << 30  # of which what rendering takes has a limit of its own, where the system keeps one
_POLL_SECONDS = 0.1
_LAUNCHER = Path(__file__).parents[1] / "worker" / "launch.py"
_KEPT = frozenset({"PATH", "SYSTEMROOT", "WINDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TEMP", "TMP"})
_SET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "PYTHONUTF8": "1",
}


class LimitError(Exception):
    """A template takes more time or memory, or writes more, than any conversation is worth. One line, for a person."""


class EngineError(Exception):
    """The engine could not be started. Its output is in the message."""


@dataclass(frozen=True, kw_only=True)
class RenderedPrompt:
    """The output of a template for a conversation: its ``text``, or the ``error`` that it ended with. Untrusted."""

    text: str | None = None
    error: str = ""


def render(module: str, given: Json, chats: Sequence[Json]) -> list[RenderedPrompt]:
    """Return what a template makes of each conversation, in the engine of a worker's module.

    ``given`` is what the engine has to know of the template; a conversation has ``messages``, ``tools`` and
    ``add_generation_prompt``. Raises LimitError, which names the conversation if it has a ``name``, and EngineError.
    """
    # Files, not pipes: nothing has to be read while the child runs, and its limit of file size bounds the answer.
    with (
        tempfile.TemporaryDirectory(prefix="phi-bot-") as folder,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(json.dumps({"given": given, "chats": list(chats)}).encode())
        stdin.seek(0)
        ended = _run(module, folder, stdin, stdout, stderr)
        answers = _answers(stdout)
        if not answers:  # not even that it is ready
            stderr.seek(0)
            said = stderr.read(1 << 20).decode("utf-8", "replace")
            sys.stderr.write(logged(said))  # a worker's is kept in a log
            last = next(reversed(said.strip().splitlines()), f"it {ended or 'ended'}")
            raise EngineError(f"the engine of chat templates ({module}) could not be loaded: {last}")
    del answers[0]
    over = next((a["exceeded"] for a in answers if "exceeded" in a), None)
    if over is None and len(answers) < len(chats):
        over = ended or "ends the process"
    if over is not None:
        at = min(sum("exceeded" not in a for a in answers), len(chats) - 1)
        raise LimitError(f"it {over}{_where(chats[at])}")
    return [RenderedPrompt(text=a.get("text"), error=a.get("error", "")) for a in answers]


def texts(module: str, given: Json, chats: Sequence[Json]) -> list[str]:
    """Return what a template makes of each conversation. Raises ValueError for the first that it refuses, too."""
    done = []
    for chat, made in zip(chats, render(module, given, chats) if chats else [], strict=True):
        if made.text is None:
            raise ValueError(f"{made.error}{_where(chat)}")
        done.append(made.text)
    return done


def _where(chat: Json) -> str:
    return f" ({chat['name']})" if chat.get("name") else ""


def _answers(stdout: IO[bytes]) -> list[Json]:
    stdout.seek(0)
    lines = stdout.read().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]  # the last one is empty, or was cut


def _run(module: str, folder: str, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> str:
    """Run the child; return how it ended in place of rendering all, or ""."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(_LAUNCHER), module],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k.upper() in _KEPT} | _SET | {"HOME": folder, "HF_HOME": folder},
    )
    deadline = time.monotonic() + WALL_SECONDS
    try:
        while True:
            try:
                return _end(process.wait(_POLL_SECONDS))
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    return f"takes more than {WALL_SECONDS:.0f} seconds"
                if own_memory(process.pid) > OWN_BYTES:
                    return f"takes too much memory (more than {OWN_BYTES >> 30} GiB)"
    finally:
        process.kill()
        process.wait()


def _end(code: int) -> str:
    if code == 0:
        return ""
    if sys.platform != "win32" and code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "takes too much time"  # the system's way to end it past its limit of processor time
    return f"takes too much time or memory (it was stopped with code {code})"
