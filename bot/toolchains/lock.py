"""Read the lock of a toolchain: a file in pip's requirements format, with a head that says what it needs.

The head is TOML in a comment, in the manner of inline script metadata:

    # /// toolchain
    # disk = 1_500_000_000
    # ...
    # ///
"""

import dataclasses
import re
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.records import base

_HEAD = re.compile(r"(?m)^# /// toolchain$\s(?P<content>(?:^#(?:| .*)$\s)+?)^# ///$")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;]+)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?=\s|$)")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One package at one version. ``text`` is what pip reads: the pin, its marker and its hashes."""

    name: str
    version: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Where a lock can be installed: Pythons as ``3.11``, and the oldest glibc or macOS (None: any)."""

    pythons: tuple[str, ...]
    since: str | None = None


@dataclass(frozen=True, kw_only=True)
class Processor:
    """The level of processor that is built for: the flags that /proc/cpuinfo must show, and how CMake is told."""

    flags: tuple[str, ...]
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SourceBuild:
    """A package that is compiled here, with CMake, from its source archive.

    ``arguments`` go to CMake. ``variables`` are set where the CMake ``project`` begins, and so win over what its own
    files force into CMake's cache. ``processors`` are by platform. ``keep`` are files and folders below ``source`` in
    the archive, left in ``src/`` of the environment under the last name of ``source``; ``paths`` of them go on the
    environment's import path. ``after_install`` are all other keys: they are for the module ``native`` of the format,
    which adds to the environment what it has of its own, once all else is installed.
    """

    package: str
    project: str
    arguments: tuple[str, ...]
    variables: dict[str, str]
    processors: dict[str, Processor]
    source: str
    keep: tuple[str, ...]
    paths: tuple[str, ...]
    after_install: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A whole lock. ``disk`` is what installing needs, in bytes; ``imports`` are tried when all is installed.

    ``kernels`` are levels of processor that the compiled package's runtime gets kernels for beside that of ``build``:
    by platform and name, the best first, each with the flags that /proc/cpuinfo must show beside those of it. The
    format's module ``native`` compiles them, and the processor at hand chooses. Nothing that is built depends on them.
    """

    requirements: tuple[Requirement, ...]
    disk: int
    imports: tuple[str, ...]
    platforms: dict[str, Platform] = field(default_factory=dict)
    build: SourceBuild | None = None
    kernels: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)


def read(file: Path) -> Lock:
    """Read a lock.

    Raises ValueError, naming the file, for one that is not complete: no head, or a requirement without an exact
    version or a hash.
    """
    try:
        return parse(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None


def parse(text: str) -> Lock:
    """Return the lock that a text is. Raises ValueError as ``read`` does."""
    head = read_head(text)
    if isinstance(build := head.get("build"), dict):
        known = {f.name for f in dataclasses.fields(SourceBuild)}
        others = {key: value for key, value in build.items() if key not in known}
        head["build"] = {k: v for k, v in build.items() if k in known} | {"after_install": others}
    found = base.read(Lock, head | {"requirements": _requirements(text)})
    return typing.cast("Lock", found)


def read_head(text: str) -> dict[str, Any]:
    """Return the head of a lock, or of the source that it is made from. Raises ValueError if there is none."""
    match = _HEAD.search(text)
    if match is None:
        raise ValueError("no line '# /// toolchain' that begins a head, or no '# ///' that ends it")
    return tomllib.loads("\n".join(line.removeprefix("#") for line in match["content"].splitlines()))


def canonical(name: str) -> str:
    """Return a package's name in the one form in which names are compared: ``llama_cpp_python`` with dashes."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ValueError("nothing is locked")
    found = []
    for entry in re.split(r"(?<!\\)\n", "\n".join(lines)):
        match = _REQUIREMENT.match(entry)
        if match is None or not _HASH.search(entry):
            raise ValueError(f"{entry.splitlines()[0]!r} has no exact version or no sha256")
        found.append({"name": canonical(match["name"]), "version": match["version"], "text": entry})
    return found
