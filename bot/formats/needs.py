"""The needs of building and verifying a variant."""

from dataclasses import dataclass
from functools import cache

from bot import devices, format_folders, toolchains
from bot.devices import NONE, Platform, here
from bot.records.artifacts import Variant
from bot.toolchains import lock

LINUX: Platform = ("linux", "x86_64")
LINUX_ARM: Platform = ("linux", "arm64")
MACOS: Platform = ("macos", "arm64")
WINDOWS: Platform = ("windows", "x86_64")
_IN_LOCKS = {"linux-x86_64": LINUX, "linux-aarch64": LINUX_ARM, "macos-arm64": MACOS, "windows-amd64": WINDOWS}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Platforms in the order of preference, and the accelerator of the runtime. Without a platform, nothing will do."""

    platforms: tuple[Platform, ...]
    accelerator: str = NONE


def needs(variant: Variant, *preferred: Platform) -> Needs:
    """Return what a variant needs: those of the preferred platforms that its toolchain and its device are there for."""
    device, locked = devices.find(proving_device(variant)), _locked(variant.format)
    if device is None:
        return Needs(platforms=())
    able = tuple(p for p in preferred if p in locked and device.runs_on(p))
    return Needs(platforms=able, accelerator=device.accelerator)


def proving_device(variant: Variant) -> str:
    """Return the name of the device that a machine must have to verify a variant: its own, unless another will do."""
    return str(format_folders.on_device(variant.format, variant.target).get("proven_on", variant.target))


def missing_to_prove(variant: Variant) -> str | None:
    """Say in one line what this machine lacks to verify a variant, or return None if it has it.

    What cannot be verified here is not built here for publication.
    """
    return here.missing_for(proving_device(variant))


def is_read_past_switch(variant: Variant) -> bool:
    """Say whether what a variant is proven on turns positions past a LongRoPE switch as its own device does."""
    return not format_folders.on_device(variant.format, variant.target).get("selects_rotary_rows", False)


@cache
def _locked(name: str) -> frozenset[Platform]:
    return frozenset(_IN_LOCKS[p] for p in lock.read(toolchains.lock_file(name)).platforms if p in _IN_LOCKS)
