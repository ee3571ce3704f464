"""The locked environments: one a format, whose lock is lock.txt of its folder, and those of NAME.txt here."""

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot import format_folders
from bot.records.digests import digest_of
from bot.toolchains.lock import parse

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """An installed toolchain: its interpreter, the digest of its lock, and the versions of what is in it."""

    name: str
    python: Path
    lock_digest: str
    versions: dict[str, str]


def names() -> list[str]:
    """Return the names of all toolchains: those of the formats, ``plots`` and ``reference``."""
    return sorted({*format_folders.names(), *(p.stem for p in FOLDER.glob("*.txt"))})


def lock_file(name: str) -> Path:
    """Return the path of a toolchain's lock."""
    shared = FOLDER / f"{name}.txt"
    return shared if shared.exists() else format_folders.file_of(name, "lock.txt")


def source_file(name: str) -> Path:
    """Return the path of what a toolchain's lock is made from."""
    shared = FOLDER / f"{name}.in"
    return shared if shared.exists() else format_folders.file_of(name, "lock.in")


def lock_digest(name: str) -> str:
    """Return the sha256, in hex, of what decides what is built with a lock: the part of it that is in build keys.

    The rest of a lock (how much disk it takes, on which systems it was found to install) may change without anything
    being built or installed anew, and its ``kernels`` without anything being built anew.
    """
    return _digests_now(name)[0]


def install_digest(name: str) -> str:
    """Return the sha256, in hex, of all that a lock installs, and how: what cache folders are named by."""
    return _digests_now(name)[1]


def _digests_now(name: str) -> tuple[str, str]:
    file = lock_file(name)
    known = file.stat()
    return _digests(file, known.st_mtime_ns, known.st_size)  # asked for each of ten thousand publications


@cache
def _digests(file: Path, _changed: int, _size: int) -> tuple[str, str]:
    text = file.read_text(encoding="utf-8")
    built, kernels = digest_of_lock(text), parse(text).kernels
    return built, digest_of([built, kernels]) if kernels else built


def digest_of_lock(text: str) -> str:
    """Return the sha256, in hex, of what decides what is built with a lock. Raises ValueError for what is not one."""
    lock = parse(text)
    requirements = [" ".join(r.text.replace("\\\n", " ").split()) for r in lock.requirements]
    build = dataclasses.asdict(lock.build) if lock.build else None
    if build is not None:
        build |= build.pop("after_install")
    return digest_of([requirements, build])
