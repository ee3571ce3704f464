"""Make the environment that the action runs the bot in: ``python -I install.py``. Standard library alone.

    RUNNER_TEMP/phi-bot-DIGEST/     the virtual environment; complete.txt is written last

Runners empty RUNNER_TEMP before and after each job, so nothing of one job reaches another. A second step of a job that
uses the action finds the environment there.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

PYTHONS = ((3, 11), (3, 14))  # the first and the last one that the locks know
_BOT = Path(__file__).parents[1]
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_MARK = "complete.txt"

# What pip may see of our environment. A list of what is allowed, not of what is forbidden: tokens have many names.
_PASSED_ON = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "WINDIR"}
    | {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "APPDATA", "LOCALAPPDATA", "USERPROFILE"}
    | {"PROGRAMDATA", "PATHEXT", "COMSPEC", "LD_LIBRARY_PATH"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    | {f"PIP_{name}" for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "TRUSTED_HOST", "CERT")}
    | {f"PIP_{name}" for name in ("CLIENT_CERT", "PROXY", "TIMEOUT", "RETRIES", "CACHE_DIR", "CONFIG_FILE")}
)


class InstallFailed(Exception):  # noqa: N818 - as the bot's own modules call it
    """The environment could not be made: what happened, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def install(temp: Path, environ: Mapping[str, str]) -> Path:
    """Return the Python of the environment below ``temp``, made if it is not there.

    Every package is the file that the lock names by its sha256. Raises Failed, and leaves nothing half-made.
    """
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        first, last = (".".join(map(str, python)) for python in PYTHONS)
        raise InstallFailed(
            f"phi-bot takes Python {first} to {last}, and this is {sys.version.split()[0]}",
            "Leave the input python empty, and the action sets one up.",
        )
    folder = temp / f"phi-bot-{_digest()}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / _MARK).exists() and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run([sys.executable, "-I", "-m", "venv", str(folder)], environ)
        command = [str(python), "-I", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        command += ["--only-binary", ":all:", "--no-compile", "--disable-pip-version-check", "--no-input"]
        _run([*command, "-r", str(_REQUIREMENTS)], environ)
        # The bot is lent to its environment rather than built and installed in it: it runs from the action's checkout.
        packages = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
        (Path(packages) / "phi-bot.pth").write_text(f"{_BOT.parent}\n", encoding="utf-8")
        (folder / _MARK).write_text(f"{sys.version}\n", encoding="utf-8")
    except (InstallFailed, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return python


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what pip may see of ``environ``: no token, and no setting of Python's."""
    return {name: value for name, value in environ.items() if name.upper() in _PASSED_ON}


def _digest() -> str:
    """Return what the environment depends on, as 16 hex digits."""
    parts = [sys.version, sys.base_prefix, str(_BOT), _REQUIREMENTS.read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _run(command: list[str], environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        env=environment(environ) | {"PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("ERROR: ")), lines[-1] if lines else "it printed nothing")
    if "ensurepip is not" in done.stdout:  # Debian has it in a package of its own
        said = "this Python cannot make virtual environments"
    raise InstallFailed(
        f"the environment of phi-bot could not be made: {said.removeprefix('ERROR: ')}",
        "Run the job again; on a runner of your own, see that it reaches a package index.",
    )


def main(environ: Mapping[str, str]) -> int:
    """Make the environment, and hand its Python on as the output ``python``. Return the exit code."""
    try:
        python = install(Path(environ["RUNNER_TEMP"]), environ)
    except InstallFailed as failed:
        text = f"{failed.message}\n{failed.hint}".replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        sys.stdout.write(f"::error title=phi-bot::{text}\n")
        return 46  # NotReadyError's, see docs/exit-codes.md
    with Path(environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.write(f"python={python.as_posix()}\n")  # Bash runs it, on Windows too
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
