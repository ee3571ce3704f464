"""The locked environments that build and run one format each: NAME.txt here is the lock of toolchain NAME."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """An installed toolchain: its interpreter, the sha256 of its lock, and the versions of what is in it."""

    name: str
    python: Path
    lock_digest: str
    versions: dict[str, str]


def names() -> list[str]:
    """Return the names of all toolchains: ``gguf``, ``mlx``, ``onnx``, ``openvino``, ``reference``."""
    return sorted(p.stem for p in FOLDER.glob("*.txt"))


def lock_file(name: str) -> Path:
    """Return the path of a toolchain's lock."""
    return FOLDER / f"{name}.txt"


def lock_digest(name: str) -> str:
    """Return the sha256, in hex, of a toolchain's lock: what build keys and cache folders are named by."""
    return hashlib.sha256(lock_file(name).read_bytes()).hexdigest()
