"""Run pip, and what else an installation takes, in a toolchain: what it may see, how far it is, what went wrong."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.errors import DiskFullError, PhiBotError, ToolchainError
from bot.printable import logged
from bot.progress import Task
from bot.toolchains.enter import PASSED_ON
from bot.toolchains.pytorch import cpu_index

_GUARD = Path(__file__).parents[1] / "system" / "guard.py"

# Where packages come from and how they are reached is the machine's business, where they go is ours: of pip's own
# settings only the former are passed on.
_PIP_SETTINGS = frozenset(
    f"PIP_{name}"
    for name in (
        "INDEX_URL",
        "EXTRA_INDEX_URL",
        "FIND_LINKS",
        "NO_INDEX",
        "TRUSTED_HOST",
        "CERT",
        "CLIENT_CERT",
        "PROXY",
        "TIMEOUT",
        "DEFAULT_TIMEOUT",
        "RETRIES",
        "CACHE_DIR",
        "NO_CACHE_DIR",
        "CONFIG_FILE",
        "KEYRING_PROVIDER",
    )
)
_NETWORK = frozenset(
    {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
)
_PLACES = frozenset({"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "APPDATA", "LOCALAPPDATA", "USERPROFILE"})
_COMPILERS = frozenset(
    {"CC", "CXX", "SDKROOT", "DEVELOPER_DIR", "MACOSX_DEPLOYMENT_TARGET"}
    | {"PROGRAMFILES", "PROGRAMFILES(X86)", "PROGRAMDATA", "COMSPEC", "PATHEXT", "PROCESSOR_ARCHITECTURE"}
)

_STEP = re.compile(r"\s*\[(\d+)/(\d+)\] ")  # ninja's, as pip -v passes it on
_DOWNLOAD = re.compile(r"\s*(?:Downloading|Using cached) (?P<file>\S+?)(?:\.metadata)? \((?P<size>[\d.]+ [kMG]B)\)")


def environment(scratch: Path) -> dict[str, str]:
    """Return what pip and the compilers that it starts may see of our environment: no token, no setting of Python.

    ``scratch`` is where they keep what is temporary: on the disk whose free space was checked.
    """
    allowed = PASSED_ON | _PIP_SETTINGS | _NETWORK | _PLACES | _COMPILERS
    passed = {k: v for k, v in os.environ.items() if k.upper() in allowed}
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    ours = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0", "PYTHONUTF8": "1"}
    ours["ORT_DISABLE_TELEMETRY"] = "1"  # what was installed is imported once, to see that it can be
    return passed | temporary | ours


class CommandFailed(Exception):  # noqa: N818 - on the way to an error of bot/errors.py
    """A command of an installation failed; ``output`` is all that it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(essence(output))
        self.output = output


def run(command: list[str], *, log: Path, env: dict[str, str], follow: Callable[[str], None]) -> None:
    """Run a command; add what it prints to ``log`` and give it to ``follow`` line by line.

    It and all that it starts end with this function, however it ends, and with this process. Raises Failed.
    """
    printed: list[str] = []
    with log.open("a", encoding="utf-8") as file, _started(command, env) as process:
        file.write(f"$ {' '.join(command)}\n")
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        for line in process.stdout:
            printed.append(line)
            file.write(logged(line))
            file.flush()
            follow(line)
        code = process.wait()
    if code:
        raise CommandFailed("".join(printed) or f"it ended with code {code}")


@contextmanager
def _started(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-I", str(_GUARD), *command],
        stdin=subprocess.PIPE,  # never written to: see guard.py
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Packages:
    """Follows pip through the installation of a list of packages."""

    def __init__(self, task: Task, total: int, site_packages: Path) -> None:
        self._task, self._total, self._site_packages = task, total, site_packages
        self._collected = 0
        self._what = "downloading"

    def restart(self) -> None:
        """Forget what was collected: pip begins again."""
        self._collected = 0

    def line(self, line: str) -> None:
        """Take in a line that pip printed."""
        if line.startswith("Ignoring "):  # its marker says that it is not for this system
            self._total -= 1
        elif line.startswith(("Collecting ", "Processing ")):
            self._collected += 1
            self._task.update(self._what, self._collected, self._total, "packages")
        elif match := _DOWNLOAD.match(line):
            large = match["size"].endswith("GB") or (match["size"].endswith("MB") and float(match["size"][:-3]) >= 20)
            package = match["file"].rsplit("/", 1)[-1].split("-", 1)[0]
            self._what = f"downloading {package} ({match['size']})" if large else "downloading"
            self._task.update(self._what, self._collected, self._total, "packages")

    @contextmanager
    def unpacking(self) -> Iterator[None]:
        """Count what is in place while the block runs: pip says nothing while it unpacks."""
        done = threading.Event()

        def count() -> None:
            while not done.wait(0.5):
                present = sum(1 for _ in self._site_packages.glob("*.dist-info"))
                if self._collected >= self._total:
                    self._task.update("unpacking", min(present, self._total), self._total, "packages")

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def compilation(task: Task) -> Callable[[str], None]:
    """Return what follows a compilation by its lines."""

    def follow(line: str) -> None:
        if match := _STEP.match(line):
            task.update("compiling", int(match[1]), int(match[2]), "files")

    return follow


def error(what: str, failed: CommandFailed, log: Path) -> PhiBotError:
    """Return the error that a person gets to see when installing ``what`` failed."""
    if re.search(r"No space left on device|Disk quota exceeded|\[Errno 28\]", failed.output):
        return DiskFullError(
            f"the disk filled up while {what} was being installed",
            hint="Nothing of it is left. Free some disk, or set PHI_BOT_CACHE to a folder on a larger one.",
        )
    if "ensurepip is not" in failed.output:  # Debian has it in a package of its own
        return ToolchainError(
            f"{what} could not be installed: this Python cannot make virtual environments",
            hint="Install what it lacks; on Debian and Ubuntu: apt-get install python3-venv",
        )
    why, hint = str(failed), ""
    if "connection broken by" in failed.output:
        why = "a package index does not answer"
        hint = "Check the network, and pip's settings (`pip config list`). "
        if cpu_index() in failed.output:
            hint += f"{cpu_index()} has PyTorch's CPU builds; PHI_BOT_TORCH_INDEX names another that has. "
    return ToolchainError(f"{what} could not be installed: {why}", hint=f"{hint}All that was printed is in {log}.")


def essence(output: str) -> str:
    """Return the one line of a failed installation's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        culprit = next((line for line in lines if re.match(r"\S+==\S+ from ", line)), "a package")
        return f"{culprit.split(' from ')[0]} is not the file that is locked (its sha256 differs)"
    for pattern in (r"CMake Error|\b(?:fatal )?error: (?!subprocess|command)", r"ERROR: No matching", r"ERROR: "):
        found = [line for line in lines if re.search(pattern, line)]
        if found:
            return found[0].removeprefix("ERROR: ")
    return lines[-1] if lines else "it printed nothing"
