"""Installed toolchains: found, listed and removed.

    CACHE/toolchains/NAME-DIGEST-PYTHON-PLATFORM/
        complete.json    written last, at one stroke: without it nothing here counts
        env-XXXX/        the virtual environment that it names
    CACHE/toolchains/NAME-DIGEST-PYTHON-PLATFORM.log     what pip and the compiler printed
    CACHE/toolchains/NAME-DIGEST-PYTHON-PLATFORM.lock    held while it is being installed or removed

CACHE is the user's cache folder, or what the environment variable PHI_BOT_CACHE names.
"""

import json
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from bot import toolchains
from bot.records.artifacts import Record
from bot.toolchains import Toolchain, system

MARK = "complete.json"
_SLOT = re.compile(r"(?P<name>[a-z0-9_-]+)-[0-9a-f]{16}-[^-]+-[^-]+-.+")


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A toolchain on this disk, of the lock at hand: ``size`` in bytes, ``seconds`` that installing it took."""

    name: str
    folder: Path
    size: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Complete(Record):
    """The content of complete.json: the folder of the ``environment``, and the packages in it."""

    environment: str
    versions: dict[str, str]
    size: int
    seconds: float


def cache_folder() -> Path:
    """Return the folder that holds all toolchains."""
    own = os.environ.get("PHI_BOT_CACHE")
    return Path(own or platformdirs.user_cache_path("phi-bot", appauthor=False)).expanduser().absolute() / "toolchains"


def installed() -> list[Installed]:
    """Return the toolchains that are installed, of the locks and the Python at hand, in alphabetical order."""
    found = []
    for name in toolchains.names():
        complete = complete_of(folder_of(name))
        if complete is not None:
            folder = folder_of(name)
            found.append(Installed(name=name, folder=folder, size=complete.size, seconds=complete.seconds))
    return found


def other_folders() -> list[Path]:
    """Return the folders of toolchains of other locks or of other Pythons."""
    known = {folder_of(name) for name in toolchains.names()}
    return [s for s in _slots() if s not in known]


def remove(name: str) -> bool:
    """Remove a toolchain, of whichever lock and Python; return whether there was one.

    A process that uses it at this moment fails.
    """
    slots = [s for s in _slots() if _SLOT.fullmatch(s.name)["name"] == name]  # type: ignore[index]
    for slot in slots:
        _remove(slot)
    return bool(slots)


def remove_others() -> list[int]:
    """Remove the toolchains of other locks and other Pythons, with their logs and their lock files.

    Return the bytes that each toolchain had. A process that uses one at this moment fails.
    """
    freed = []
    for slot in other_folders():
        freed.append(size_of(slot))
        _remove(slot)
    known = {folder_of(name) for name in toolchains.names()}
    for file in cache_folder().glob("*.lock") if cache_folder().is_dir() else ():
        slot = file.with_suffix("")
        if _SLOT.fullmatch(slot.name) and slot not in known and _remove_free_lock(file, slot):
            slot.with_name(f"{slot.name}.log").unlink(missing_ok=True)
    return freed


def _remove_free_lock(file: Path, slot: Path) -> bool:
    """Remove a lock that nobody holds, of a toolchain that is not there; return whether that was so.

    It is removed while it is held: who waits for it then finds that the file is gone, and makes it anew.
    """
    try:
        with FileLock(file).acquire(timeout=0):
            if not slot.exists():
                file.unlink()
                return True
    except (Timeout, OSError):
        pass
    return False


def _remove(slot: Path) -> None:
    with FileLock(lock_file(slot)):
        (slot / MARK).unlink(missing_ok=True)
        shutil.rmtree(slot)


def folder_of(name: str) -> Path:
    """Return the folder that a toolchain has in the cache, or gets there when it is installed."""
    digest = toolchains.install_digest(name)[:16]
    return cache_folder() / f"{name}-{digest}-{system.python_tag()}-{system.name()}"


def _slots() -> list[Path]:
    folder = cache_folder()
    return sorted(p for p in folder.iterdir() if p.is_dir() and _SLOT.fullmatch(p.name)) if folder.is_dir() else []


def lock_file(slot: Path) -> Path:
    """Return the file that is held while a toolchain is being installed or removed."""
    return slot.with_name(f"{slot.name}.lock")


def complete_of(slot: Path) -> Complete | None:
    """Return what the folder of a toolchain says of itself, None where it is not whole, or not there."""
    try:
        complete = Complete.from_json(json.loads((slot / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    # The Python that it was made with may be gone, and then its own is a dangling link.
    return complete if python_of(slot / complete.environment).exists() else None


def find(name: str, slot: Path) -> Toolchain | None:
    """Return a toolchain as its folder has it, None where it is not whole, or not there."""
    complete = complete_of(slot)
    if complete is None:
        return None
    return Toolchain(
        name=name,
        python=python_of(slot / complete.environment),
        lock_digest=toolchains.lock_digest(name),
        versions=complete.versions,
    )


def site_packages(environment: Path) -> Path:
    """Return the folder of a virtual environment that its packages are in."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))


def python_of(environment: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def size_of(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())
