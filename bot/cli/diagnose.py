"""A report of what works on this machine, what is missing, and what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot import devices, toolchains
from bot.devices import here
from bot.errors import NoCompilerError, PhiBotError
from bot.printable import size
from bot.records.artifacts import Record
from bot.system import machine
from bot.toolchains import kept, lock, system

_MODEST_MEMORY = 8_000_000_000  # below it, models of the size of Phi-3.5-mini do not get through every toolchain


@dataclass(frozen=True, kw_only=True)
class Finding(Record):
    """One thing that was looked at. ``missing`` stands in the way of something the bot does; ``warn`` may."""

    name: str
    status: Literal["ok", "warn", "missing"]
    detail: str
    what_to_do: str | None = None


def diagnose(work: Path, check_hub: Callable[[], object]) -> list[Finding]:
    """Look at everything the bot needs. Changes nothing, and installs nothing.

    ``work`` is the working folder. ``check_hub`` asks the Hub for something that every token may see, and raises a
    PhiBotError when there is no answer or the token is not taken.
    """
    return [
        _python(),
        _compiler(),
        _git(),
        _disk("disk for toolchains", kept.cache_folder(), _still_to_install()),
        _disk("disk for work", work, 0),
        _memory(),
        *(_toolchain(name) for name in toolchains.names()),
        *_other_toolchains(),
        *map(_device, devices.all_devices()),
        _token(),
        _hub(check_hub),
    ]


def _python() -> Finding:
    return Finding(name="Python", status="ok", detail=f"{platform.python_version()}, {sys.executable}")


def _compiler() -> Finding:
    built = {i.name for i in kept.installed()}
    waiting = [n for n in toolchains.names() if n not in built and lock.read(toolchains.lock_file(n)).build]
    try:
        return Finding(name="C++ compiler", status="ok", detail=system.compiler(", ".join(waiting)))
    except NoCompilerError as error:
        return Finding(
            name="C++ compiler",
            status="missing" if waiting else "warn",
            detail=error.message if waiting else "none, and every toolchain that is compiled is installed",
            what_to_do=error.hint,
        )


def _git() -> Finding:
    found = shutil.which("git")
    if found:
        return Finding(name="git", status="ok", detail=found)
    return Finding(name="git", status="warn", detail="none", what_to_do="Install git to work on the bot itself.")


def _still_to_install() -> int:
    there = {i.name for i in kept.installed()}
    locks = [lock.read(toolchains.lock_file(n)) for n in toolchains.names() if n not in there]
    return sum(each.disk for each in locks if system.refusal(each) is None)


def _disk(name: str, folder: Path, needed: int) -> Finding:
    free = machine.free_disk(folder)
    if free >= needed:
        return Finding(name=name, status="ok", detail=f"{size(free)} free in {folder}")
    return Finding(
        name=name,
        status="missing",
        detail=f"{size(free)} free in {folder}, and the toolchains that are not installed take {size(needed)}",
        what_to_do="Free some disk, or set PHI_BOT_CACHE to a folder on a larger one.",
    )


def _memory() -> Finding:
    usable, whole = machine.memory(), machine.whole_memory()
    detail = size(usable) if usable == whole else f"{size(usable)} of the machine's {size(whole)} may be used here"
    if usable >= _MODEST_MEMORY:
        return Finding(name="memory", status="ok", detail=detail)
    hint = "`phi-bot plan` says how much each job needs; small models work."
    return Finding(name="memory", status="warn", detail=detail, what_to_do=hint)


def _toolchain(name: str) -> Finding:
    title = f"toolchain {name}"
    found = next((i for i in kept.installed() if i.name == name), None)
    if found is not None:
        return Finding(name=title, status="ok", detail=f"installed, {size(found.size)}")
    locked = lock.read(toolchains.lock_file(name))
    reason = system.refusal(locked)
    if reason is None:
        detail = f"not installed; it will be on first use, and takes {size(locked.disk)} of disk meanwhile"
        return Finding(name=title, status="ok", detail=detail)
    return Finding(
        name=title,
        status="missing",
        detail=f"cannot be installed here: {reason}",
        what_to_do=f"Build the variants of {name} on another machine, or with a Python that it is locked for.",
    )


def _other_toolchains() -> list[Finding]:
    folders = kept.other_folders()
    if not folders:
        return []
    return [
        Finding(
            name="other toolchains",
            status="warn",
            detail=f"{len(folders)} of other versions of the bot or of Python",
            what_to_do="If nothing else uses them, `phi-bot toolchain remove --others` removes "
            f"{', '.join(map(str, folders))}.",
        )
    ]


def _device(device: devices.Device) -> Finding:
    """Say whether files for a device can be run here, and how to have it where a machine of this kind may.

    One that is not there stands in nobody's way.
    """
    title = f"device {device.name}"
    if lacking := here.missing(device):
        may = device.runs_on(machine.system_and_architecture())
        return Finding(name=title, status="ok", detail=f"none: {lacking}", what_to_do=device.have if may else None)
    beside = "" if device.accelerator == devices.NONE else f", {size(here.memory(device))}"
    return Finding(name=title, status="ok", detail=f"{device.needed}{beside}")


def _token() -> Finding:
    """Say whether there is a token, and where; never what it is."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(variable, "").strip():
            return Finding(name="token", status="ok", detail=f"in the environment variable {variable}")
    if os.environ.get("HF_OIDC_RESOURCE"):
        return Finding(name="token", status="ok", detail=f"traded for GitHub's, for {os.environ['HF_OIDC_RESOURCE']}")
    file = _token_file()
    if file.is_file() and file.stat().st_size:
        return Finding(name="token", status="ok", detail=f"in {file}")
    return Finding(
        name="token",
        status="warn",
        detail="none: public models can be read, nothing can be published",
        what_to_do="Set HF_TOKEN to a token with the right to write, or run `hf auth login`.",
    )


def _token_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("HF_HOME") or Path(cache) / "huggingface"
    return Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser()


def _hub(check: Callable[[], object]) -> Finding:
    try:
        answer = check()
    except PhiBotError as error:
        return Finding(name="Hub", status="missing", detail=error.message, what_to_do=error.hint)
    return Finding(name="Hub", status="ok", detail=answer if isinstance(answer, str) else "answers")
