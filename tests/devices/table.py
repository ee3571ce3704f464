"""The table of devices with rows of a test's own."""

import os
import stat
from pathlib import Path

import pytest

from bot import devices
from bot.system import machine

HERE = " ".join(machine.system_and_architecture())

NPU = """
[[device]]
name = "npu"
called = "laptops with an NPU"
needed = "an NPU"
missing = "its runtime needs an NPU, and this machine has none"
have = "Install the driver of the NPU."
platforms = ["{platform}"]
accelerator = "npu"
short = "NPU"
manufacturers = ["Npus & Sons"]
{found}
"""


def with_row(folder: Path, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    """Have a copy of the table with one row more be the table, until the test ends."""
    copy = folder / "devices.toml"
    copy.write_text(devices.FILE.read_text(encoding="utf-8") + row, encoding="utf-8")
    monkeypatch.setattr(devices, "FILE", copy)


def with_npu(folder: Path, monkeypatch: pytest.MonkeyPatch, *, found: str = "", platform: str = HERE) -> None:
    """Have a device in the table that no format of ours is for; ``found`` is the line that finds it."""
    with_row(folder, monkeypatch, NPU.format(found=found, platform=platform))


def program(file: Path, text: str, code: int = 0) -> None:
    """Write a program that prints a text and ends with a code."""
    file.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


shell = pytest.mark.skipif(os.name == "nt", reason="the program is a shell script")
