"""The locked environments that build and run one format each: NAME.txt here is the lock of toolchain NAME."""

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot.records.artifacts import digest_of
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
    """Return the names of all toolchains: ``gguf``, ``mlx``, ``onnx``, ``openvino``, ``plots``, ``reference``."""
    return sorted(p.stem for p in FOLDER.glob("*.txt"))


def lock_file(name: str) -> Path:
    """Return the path of a toolchain's lock."""
    return FOLDER / f"{name}.txt"


def lock_digest(name: str) -> str:
    """Return the sha256, in hex, of what a lock installs and how: what build keys and cache folders are named by.

    The rest of a lock (how much disk it takes, on which systems it was found to install) may change without anything
    being built or installed anew.
    """
    file = lock_file(name)
    known = file.stat()
    return _digest(file, known.st_mtime_ns, known.st_size)  # asked for each of ten thousand publications


@cache
def _digest(file: Path, _changed: int, _size: int) -> str:
    return digest_of_lock(file.read_text(encoding="utf-8"))


def digest_of_lock(text: str) -> str:
    """Return the sha256, in hex, of what a lock installs and how. Raises ValueError for what is not a lock."""
    lock = parse(text)
    requirements = [" ".join(r.text.replace("\\\n", " ").split()) for r in lock.requirements]
    return digest_of([requirements, dataclasses.asdict(lock.build) if lock.build else None])
