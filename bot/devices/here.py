"""Which devices this machine has."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from bot import devices
from bot.devices import NONE, Device
from bot.system import machine


def memory(device: Device) -> int:
    """Return the memory of the first one in this machine, in bytes; 0 where there is none.

    One that tells of no memory of its own shares the machine's.
    """
    if not device.runs_on(machine.system_and_architecture()):
        return 0
    if device.file is not None and not any(Path(device.file).parent.glob(Path(device.file).name)):
        return 0
    return machine.memory() if device.program is None else _told(device.program)


def missing(device: Device) -> str | None:
    """Say in one line what this machine lacks to run files for a device, or return None if it has it."""
    return None if memory(device) else device.missing


def missing_for(name: str) -> str | None:
    """Say the same of a device by its name, which may be of another version's table."""
    device = devices.find(name)
    return f"its runtime ({name}) is not known here" if device is None else missing(device)


def accelerator() -> tuple[str, int]:
    """Return the first accelerator that this machine has, and its memory in bytes; ``none`` and 0 without one."""
    found = ((d.accelerator, memory(d)) for d in devices.all_devices() if d.accelerator != NONE)
    return next((f for f in found if f[1]), (NONE, 0))


@cache
def _told(program: tuple[str, ...]) -> int:
    """Return the memory that a program tells of the first device that it lists, in bytes; 0 where it lists none."""
    tool = shutil.which(program[0])
    if tool is None:
        return 0
    try:
        listed = subprocess.run([tool, *program[1:]], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):  # a driver that hangs runs nothing
        return 0
    first = listed.stdout.partition("\n")[0].strip()
    if listed.returncode != 0 or not first:
        return 0
    return int(first) << 20 if first.isdecimal() else machine.memory()
