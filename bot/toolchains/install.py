"""Install a toolchain where it is first used, and find it there ever after (see kept.py).

A virtual environment cannot be moved, so it is made where it will stay; and each attempt makes its own, so that nothing
a killed attempt may still write ends up in the next one's.
"""

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from bot import toolchains
from bot.errors import DiskTooSmallError, ToolchainError
from bot.printable import size
from bot.progress import Display, Task
from bot.toolchains import Toolchain, system
from bot.toolchains.compile import Environment, build_package
from bot.toolchains.kept import (
    MARK,
    Complete,
    cache_folder,
    complete_of,
    find,
    folder_of,
    lock_file,
    python_of,
    site_packages,
    size_of,
)
from bot.toolchains.lock import Lock, Requirement, canonical, read
from bot.toolchains.pip import CommandFailed, Packages, environment, error, run
from bot.toolchains.pytorch import cpu_index


def ensure(name: str, display: Display) -> Toolchain:
    """Return a toolchain, installed if it is not.

    Nothing is downloaded, looked up or run when it is there. Otherwise raises ToolchainError if it does not exist for
    this system or could not be installed, NoCompilerError, DiskTooSmallError before anything is downloaded, and
    DiskFullError. Whatever it raises, nothing half-made is left.
    """
    slot = folder_of(name)
    found = find(name, slot)
    if found is not None:
        return found
    lock = read(toolchains.lock_file(name))
    with _alone(slot, display, f"Waiting for another process that is installing the toolchain {name}"):
        found = find(name, slot)  # made by that process
        if found is not None:
            return found
        shutil.rmtree(slot, ignore_errors=True)  # what a killed process left
        system.require(lock, name)
        _require_disk(lock, name)
        with display.task(f"Installing the toolchain {name}") as task:
            _install(name, lock, slot, task)
        found = find(name, slot)
    assert found is not None  # noqa: S101 - it was just made
    return found


@contextmanager
def _alone(slot: Path, display: Display, waiting: str) -> Iterator[None]:
    try:
        slot.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file(slot))
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
        complete = Complete(
            environment=attempt.name,
            versions=versions,
            size=size_of(attempt),
            seconds=round(time.monotonic() - started, 1),
        )
        _write(slot / MARK, json.dumps(complete.to_json(), indent=2) + "\n")
    except CommandFailed as failed:
        raise error(f"the toolchain {name}", failed, log) from None
    except OSError as problem:
        raise error(f"the toolchain {name}", CommandFailed(str(problem)), log) from None
    finally:
        if complete_of(slot) is None:
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
        command = [str(python_of(folder)), "-I", "-m", "pip", "install", "--require-hashes", "--no-deps"]
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
            lock,
            Environment(python=python_of(folder), site_packages=site_packages(folder), env=env, log=log),
            scratch=scratch,
            task=task,
        )
    task.update("trying it", 0, len(lock.imports), "packages")
    imports = "; ".join(f"import {module}" for module in lock.imports)
    run([str(python_of(folder)), "-I", "-c", imports], log=log, env=env, follow=silent)


def _versions(lock: Lock, environment: Path) -> dict[str, str]:
    """Return the versions of what is installed, as its own metadata say them, by canonical name."""
    found = metadata.distributions(path=[str(site_packages(environment))])
    versions = {canonical(d.metadata["Name"]): d.version for d in found}
    locked = {r.name for r in lock.requirements}
    return {name: versions[name] for name in sorted(versions) if name in locked}


def _write(file: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
