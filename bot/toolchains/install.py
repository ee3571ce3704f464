"""Install a toolchain where it is first used, and find it there ever after.

    CACHE/toolchains/NAME-DIGEST-PYTHON-PLATFORM/
        complete.json    written last, at one stroke: without it nothing here counts
        env-XXXX/        the virtual environment that it names
    CACHE/toolchains/NAME-DIGEST-PYTHON-PLATFORM.log     what pip and the compiler printed
    CACHE/toolchains/NAME-DIGEST-PYTHON-PLATFORM.lock    held while it is being installed or removed

A virtual environment cannot be moved, so it is made where it will stay; and each attempt makes its own, so that nothing
a killed attempt may still write ends up in the next one's. CACHE is the user's cache folder, or what the environment
variable PHI_BOT_CACHE names.
"""

import json
import os
import re
import shutil
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from bot import toolchains
from bot.errors import DiskTooSmallError, ToolchainError
from bot.printable import size
from bot.progress import Display, Task
from bot.records.artifacts import Record
from bot.toolchains import Toolchain, system
from bot.toolchains.build import Environment, build_package
from bot.toolchains.lock import Lock, Requirement, canonical, read
from bot.toolchains.pip import CommandFailed, Packages, environment, error, run
from bot.toolchains.pytorch import cpu_index

_MARK = "complete.json"
_SLOT = re.compile(r"(?P<name>[a-z0-9_-]+)-[0-9a-f]{16}-[^-]+-[^-]+-.+")


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A toolchain on this disk, of the lock at hand: ``size`` in bytes, ``seconds`` that installing it took."""

    name: str
    folder: Path
    size: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Complete(Record):
    environment: str
    versions: dict[str, str]
    size: int
    seconds: float


def cache_folder() -> Path:
    """Return the folder that holds all toolchains."""
    own = os.environ.get("PHI_BOT_CACHE")
    return Path(own or platformdirs.user_cache_path("phi-bot", appauthor=False)).expanduser().absolute() / "toolchains"


def ensure(name: str, display: Display) -> Toolchain:
    """Return a toolchain, installed if it is not.

    Nothing is downloaded, looked up or run when it is there. Otherwise raises ToolchainError if it does not exist for
    this system or could not be installed, NoCompilerError, DiskTooSmallError before anything is downloaded, and
    DiskFullError. Whatever it raises, nothing half-made is left.
    """
    slot = _slot(name)
    found = _find(name, slot)
    if found is not None:
        return found
    lock = read(toolchains.lock_file(name))
    with _alone(slot, display, f"Waiting for another process that is installing the toolchain {name}"):
        found = _find(name, slot)  # made by that process
        if found is not None:
            return found
        shutil.rmtree(slot, ignore_errors=True)  # what a killed process left
        system.require(lock, name)
        _require_disk(lock, name)
        with display.task(f"Installing the toolchain {name}") as task:
            _install(name, lock, slot, task)
        found = _find(name, slot)
    assert found is not None  # noqa: S101 - it was just made
    return found


def folder_of(name: str) -> Path:
    """Return the folder that a toolchain has in the cache, or gets there when it is installed."""
    return _slot(name)


def installed() -> list[Installed]:
    """Return the toolchains that are installed, of the locks and the Python at hand, in alphabetical order."""
    found = []
    for name in toolchains.names():
        complete = _complete(_slot(name))
        if complete is not None:
            folder = _slot(name)
            found.append(Installed(name=name, folder=folder, size=complete.size, seconds=complete.seconds))
    return found


def other_folders() -> list[Path]:
    """Return the folders of toolchains of other locks or of other Pythons."""
    known = {_slot(name) for name in toolchains.names()}
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
        freed.append(_size(slot))
        _remove(slot)
    known = {_slot(name) for name in toolchains.names()}
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
    with FileLock(_lock_file(slot)):
        (slot / _MARK).unlink(missing_ok=True)
        shutil.rmtree(slot)


def _slot(name: str) -> Path:
    digest = toolchains.lock_digest(name)[:16]
    return cache_folder() / f"{name}-{digest}-{system.python_tag()}-{system.name()}"


def _slots() -> list[Path]:
    folder = cache_folder()
    return sorted(p for p in folder.iterdir() if p.is_dir() and _SLOT.fullmatch(p.name)) if folder.is_dir() else []


def _lock_file(slot: Path) -> Path:
    return slot.with_name(f"{slot.name}.lock")


def _complete(slot: Path) -> _Complete | None:
    try:
        complete = _Complete.from_json(json.loads((slot / _MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    # The Python that it was made with may be gone, and then its own is a dangling link.
    return complete if _python(slot / complete.environment).exists() else None


def _find(name: str, slot: Path) -> Toolchain | None:
    complete = _complete(slot)
    if complete is None:
        return None
    return Toolchain(
        name=name,
        python=_python(slot / complete.environment),
        lock_digest=toolchains.lock_digest(name),
        versions=complete.versions,
    )


@contextmanager
def _alone(slot: Path, display: Display, waiting: str) -> Iterator[None]:
    try:
        slot.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_file(slot))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            display.say(f"{waiting} …")
            lock.acquire()
    except OSError as problem:
        raise ToolchainError(
            f"toolchains cannot be kept in {slot.parent}: {problem.strerror}",
            hint="Set PHI_BOT_CACHE to a folder that you may write to.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _require_disk(lock: Lock, name: str) -> None:
    folder = cache_folder()
    free = shutil.disk_usage(folder).free
    if free < lock.disk:
        raise DiskTooSmallError(
            f"the toolchain {name} takes {size(lock.disk)} of disk to install, and {folder} has {size(free)} free",
            hint="Free some disk, or set PHI_BOT_CACHE to a folder on a larger one.",
        )


def _install(name: str, lock: Lock, slot: Path, task: Task) -> None:
    started = time.monotonic()
    # The log is beside what is removed when it fails.
    log = slot.with_name(f"{slot.name}.log")
    log.unlink(missing_ok=True)
    attempt = slot / f"env-{uuid.uuid4().hex[:8]}"
    scratch = slot / f"{attempt.name}.tmp"
    try:
        scratch.mkdir(parents=True)
        _fill(name, lock, attempt, scratch, log, task)
        versions = _versions(lock, attempt)
        shutil.rmtree(scratch)
        complete = _Complete(
            environment=attempt.name,
            versions=versions,
            size=_size(attempt),
            seconds=round(time.monotonic() - started, 1),
        )
        _write(slot / _MARK, json.dumps(complete.to_json(), indent=2) + "\n")
    except CommandFailed as failed:
        raise error(f"the toolchain {name}", failed, log) from None
    except OSError as problem:
        raise error(f"the toolchain {name}", CommandFailed(str(problem)), log) from None
    finally:
        if _complete(slot) is None:
            shutil.rmtree(slot, ignore_errors=True)


def _fill(name: str, lock: Lock, folder: Path, scratch: Path, log: Path, task: Task) -> None:
    """Make the environment of a lock in a folder."""
    env = environment(scratch)

    def silent(line: str) -> None:
        pass

    task.update("making the environment", 0, len(lock.requirements), "packages")
    run([sys.executable, "-I", "-m", "venv", str(folder)], log=log, env=env, follow=silent)
    packages = Packages(task, len(lock.requirements), site_packages(folder))

    def install(requirements: tuple[Requirement, ...], *options: str) -> None:
        file = scratch / "requirements.txt"
        file.write_text("".join(f"{r.text}\n" for r in requirements), encoding="utf-8")
        command = [str(_python(folder)), "-I", "-m", "pip", "install", "--require-hashes", "--no-deps"]
        # Without compiling to bytecode: of tens of thousands of modules a worker imports a few, and Python keeps those.
        command += ["--only-binary", ":all:", "--no-compile", "--progress-bar", "off", "--no-warn-script-location"]
        with packages.unpacking():
            run([*command, *options, "-r", str(file)], log=log, env=env, follow=packages.line)

    compiled = tuple(r for r in lock.requirements if lock.build is not None and r.name == lock.build.package)
    torch = tuple(r for r in lock.requirements if r.name == "torch")
    if torch:
        try:
            install(torch)
        except CommandFailed as failed:
            # Only this package is ever asked for there: a foreign index must not get to answer for the others.
            if "No matching distribution found for torch" not in failed.output:
                raise
            packages.restart()
            install(torch, "--extra-index-url", cpu_index())
    install(tuple(r for r in lock.requirements if r not in compiled and r not in torch))
    if lock.build is not None:
        build_package(
            name,
            lock.build,
            compiled,
            Environment(python=_python(folder), site_packages=site_packages(folder), env=env, log=log),
            scratch=scratch,
            task=task,
        )
    task.update("trying it", 0, len(lock.imports), "packages")
    imports = "; ".join(f"import {module}" for module in lock.imports)
    run([str(_python(folder)), "-I", "-c", imports], log=log, env=env, follow=silent)


def site_packages(environment: Path) -> Path:
    """Return the folder of a virtual environment that its packages are in."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _versions(lock: Lock, environment: Path) -> dict[str, str]:
    """Return the versions of what is installed, as its own metadata say them, by canonical name."""
    found = metadata.distributions(path=[str(site_packages(environment))])
    versions = {canonical(d.metadata["Name"]): d.version for d in found}
    locked = {r.name for r in lock.requirements}
    return {name: versions[name] for name in sorted(versions) if name in locked}


def _size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())


def _write(file: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
