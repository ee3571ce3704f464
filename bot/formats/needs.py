"""What building and verifying a variant needs of a machine."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from bot import toolchains
from bot.records.artifacts import Variant
from bot.toolchains import lock

Platform = tuple[str, str]  #: system and architecture, as rows of runners have them

LINUX, LINUX_ARM = ("linux", "x86_64"), ("linux", "arm64")
MACOS, WINDOWS = ("macos", "arm64"), ("windows", "x86_64")
_IN_LOCKS = {"linux-x86_64": LINUX, "linux-aarch64": LINUX_ARM, "macos-arm64": MACOS, "windows-amd64": WINDOWS}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Platforms in the order of preference, and the GPU that the runtime takes. Without a platform, nothing will do."""

    platforms: tuple[Platform, ...]
    accelerator: Literal["none", "nvidia"] = "none"


def needs(variant: Variant, *preferred: Platform) -> Needs:
    """Return what a variant needs: those of the preferred platforms that its toolchain is locked for.

    Files for a GPU are verified on one, and those of DirectML on Windows; for what runs in a browser there is no
    runtime to verify it in.
    """
    locked = _locked(variant.format)
    able = tuple(p for p in preferred if p in locked)
    match variant.target:
        case "cpu":
            return Needs(platforms=able)
        case "cuda":
            return Needs(platforms=tuple(p for p in able if p in (LINUX, WINDOWS)), accelerator="nvidia")
        case "dml":
            return Needs(platforms=tuple(p for p in able if p == WINDOWS))
        case _:
            return Needs(platforms=())


@cache
def _locked(name: str) -> frozenset[Platform]:
    return frozenset(_IN_LOCKS[p] for p in lock.read(toolchains.lock_file(name)).platforms if p in _IN_LOCKS)
