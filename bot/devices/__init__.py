"""The devices that files are made for, and how they are spoken of: the rows of devices.toml.

Which of them this machine has is for here.py to say; what a runtime calls one is in its format's own folder.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from bot.records.base import NOT_EMPTY, Record, pattern

FILE = Path(__file__).with_name("devices.toml")
NONE = "none"  #: the accelerator of a machine without any

Platform = tuple[str, str]  #: system and architecture, as rows of runners have them

_Name = Annotated[str, pattern("[a-z][a-z0-9-]{0,19}", "a name of small letters, digits and -, at most 20")]
_Platform = Annotated[str, pattern("(linux|macos|windows) (x86_64|arm64)", "a system and a processor")]


@dataclass(frozen=True, kw_only=True)
class Device(Record):
    """A row of devices.toml, which says what each field is for."""

    name: _Name
    called: str
    needed: str
    missing: str
    have: str
    platforms: tuple[_Platform, ...] | None = None
    accelerator: _Name = NONE
    short: str = ""
    manufacturers: tuple[str, ...] = ()
    program: Annotated[tuple[str, ...], NOT_EMPTY] | None = None
    file: str | None = None
    environment: tuple[str, ...] = ()

    def runs_on(self, platform: Platform) -> bool:
        """Say whether its runtimes are there for a system and a processor."""
        return self.platforms is None or " ".join(platform) in self.platforms


def all_devices() -> tuple[Device, ...]:
    """Return the rows, in the order in which devices are spoken of. Raises MalformedRecordError for a wrong one."""
    return _rows(FILE)


def names() -> tuple[str, ...]:
    """Return the names of all devices: what a variant may have as its target."""
    return tuple(d.name for d in all_devices())


def find(name: str) -> Device | None:
    """Return a device; None for a name that is not in the table, as another version's record may have it."""
    return next((d for d in all_devices() if d.name == name), None)


def order(name: str) -> int:
    """Return the place of a device in the order in which they are spoken of; what is not in the table comes last."""
    return names().index(name) if name in names() else len(names())


def called(name: str) -> str:
    """Return what a card calls those who have a device."""
    device = find(name)
    return name if device is None else device.called


def needed(name: str) -> str:
    """Return one of a device, in words: "a processor"."""
    device = find(name)
    return name if device is None else device.needed


def accelerators() -> tuple[str, ...]:
    """Return what a runner may have beside processors: ``none``, and those of all devices."""
    return tuple(dict.fromkeys((NONE, *(d.accelerator for d in all_devices()))))


def of_accelerator(accelerator: str) -> Device:
    """Return the device that a runner with an accelerator has. Raises LookupError for one that no row has."""
    return next(d for d in all_devices() if d.accelerator == accelerator)


def of_manufacturer(manufacturer: object) -> Device | None:
    """Return the device that somebody makes, by the name that Hugging Face Jobs has for them."""
    return next((d for d in all_devices() if manufacturer in d.manufacturers), None)


def environment() -> frozenset[str]:
    """Return the variables of the environment that runtimes of devices read."""
    return frozenset(name for device in all_devices() for name in device.environment)


@cache
def _rows(file: Path) -> tuple[Device, ...]:
    return tuple(map(Device.from_json, tomllib.loads(file.read_text(encoding="utf-8"))["device"]))
