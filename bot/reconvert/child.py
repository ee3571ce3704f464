"""Run the code of a side in a child process: no token, a time limit, a bound on what it prints.

What runs is what the comparison reads: a copy of the side's files, without the bytecode in its checkout, which Python
could run in place of the source. Workers inside toolchains start from the copy too.

Nothing here keeps a stranger's code from files that the machine's user may read: that is the job of the machine, which
has no secret on it (docs/reconversion.md). Only the secrets of this process are kept from it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from bot.printable import printable
from bot.system import temporary
from bot.toolchains.enter import PASSED_ON
from bot.toolchains.kept import cache_folder

_OURS = Path(__file__).parents[2]  # what `import bot` finds here: the checkout, or site-packages
# A head with another lock installs it.
_NETWORK = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})
_PRINTED = 32 << 20  # bytes, at most
_SAID = 2000  # characters of an error


class ChildError(Exception):
    """A side's code failed, took too long or printed too much. One line, for a person."""


class StoppedError(ChildError):
    """It took too long, or printed too much: it would do so again."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """Code to run: ``root`` is the folder with ``bot/`` in it, ``folder`` the one with phi-bot.toml.

    ``copy`` is the folder with a copy of ``bot/`` that runs in its place.
    """

    root: Path
    folder: Path
    copy: Path | None = None

    @property
    def python(self) -> Path:
        """The interpreter of its own environment if it has one, else this one."""
        scripts = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
        own = self.root.joinpath(".venv", *scripts)
        return own if own.is_file() else Path(sys.executable)


def code_of(folder: Path) -> Code:
    """Return the code of a checkout: its own, or ours where it has none (a publisher's repository)."""
    own = (folder / "bot" / "__init__.py").is_file() and (folder / "bot" / "cli" / "__main__.py").is_file()
    return Code(root=folder if own else _OURS, folder=folder)


def ours(folder: Path) -> Code:
    """Return this very code, with the configuration of a folder."""
    return Code(root=_OURS, folder=folder)


@contextmanager
def copied(code: Code) -> Iterator[Code]:
    """Copy a side's code for the block, without its bytecode. This very code, which is trusted, runs where it is."""
    if code.copy is not None or code.root == _OURS:
        yield code
        return
    with temporary.folder("code-") as folder:
        for name in ("bot", "templates"):
            if (code.root / name).is_dir():
                shutil.copytree(code.root / name, folder / name, symlinks=True, ignore=_not_copied)
        yield replace(code, copy=folder)


def run(
    code: Code, arguments: Sequence[str], *, seconds: float, network: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` with a side's code, from its folder, and return how that ended and what it printed.

    It and all that it started are dead when this returns or raises. Raises StoppedError where it takes more
    than ``seconds`` or prints more than 32 MiB.
    """
    with (
        copied(code) as own,
        temporary.folder("side-") as home,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        process = subprocess.Popen(
            [str(code.python), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=code.folder,
            env=_environment(own, str(home), network=network),
            start_new_session=True,
        )
        deadline = time.monotonic() + seconds
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise StoppedError(f"it was stopped after {seconds:.0f} seconds")
                if os.fstat(out.fileno()).st_size + os.fstat(err.fileno()).st_size > _PRINTED:
                    raise StoppedError("it was stopped because it printed too much")
                _wait(process)
        finally:
            _kill(process)
        return subprocess.CompletedProcess(arguments, process.returncode, _text(out), _text(err))


def failure_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return in one line what a process that failed said last: the line of a phi-bot error, or the last one."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    own = [line.removeprefix("phi-bot: ") for line in lines if line.startswith("phi-bot: ")]
    found = (own or lines or [f"it ended with code {done.returncode}"])[-1]
    return printable(found)[:_SAID]


def _not_copied(folder: str, names: list[str]) -> set[str]:
    """Return the bytecode, and what is neither a file nor a folder nor a link: a pipe is read as an empty file."""

    def is_copied(path: Path) -> bool:
        return path.name != "__pycache__" and (path.is_symlink() or path.is_dir() or path.is_file())

    return {name for name in names if not is_copied(Path(folder) / name)}


def _environment(code: Code, home: str, *, network: bool) -> dict[str, str]:
    passed = {k: v for k, v in os.environ.items() if k.upper() in PASSED_ON | _NETWORK}
    made = {
        "PYTHONPATH": str(code.copy or code.root),
        "PYTHONSAFEPATH": "1",  # not the folder it runs in: a publisher's repository may have a bot/ of its own
        "PYTHONUTF8": "1",
        "HOME": home,  # the token that `hf auth login` left is in the user's
        "HF_HOME": str(Path(home) / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "PHI_BOT_CACHE": str(cache_folder().parent),  # toolchains that are there are not installed again
    }
    if not network:
        made["HF_HUB_OFFLINE"] = "1"
    elif "HF_ENDPOINT" in os.environ:
        made["HF_ENDPOINT"] = os.environ["HF_ENDPOINT"]
    return passed | made


def _wait(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.5)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group: what it left running would go on using the machine."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):  # gone; macOS says the other of what is a zombie
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_PRINTED).decode("utf-8", "replace")
