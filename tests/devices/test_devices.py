"""The table of devices, and how this machine is found to have one."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import catalogue, devices, format_folders
from bot.devices import here
from bot.errors import RecordError
from bot.records.base import MalformedRecordError
from bot.system import machine
from tests.devices.table import program, shell, with_npu, with_row
from tests.names import said, shared_files
from tests.page_reader import ROOT


def test_the_documentation_shows_every_device() -> None:
    page = (ROOT / "docs" / "variants.md").read_text(encoding="utf-8")
    for device in devices.all_devices():
        accelerator = "" if device.accelerator == devices.NONE else f" `{device.accelerator}`"
        assert f"| `{device.name}` | {device.called} |{accelerator} |" in page


def test_names_and_accelerators_are_of_one_device_each() -> None:
    table = devices.all_devices()
    assert len(set(devices.names())) == len(table)
    accelerators = [d.accelerator for d in table if d.accelerator != devices.NONE]
    assert devices.accelerators() == ("none", *accelerators)
    assert all(bool(d.short) == (d.accelerator != devices.NONE) for d in table)


def test_the_devices_of_a_format_are_in_the_table() -> None:
    said = {name: format_folders.file_of(name, "devices.toml") for name in format_folders.names()}
    for name, file in said.items():
        targets = {v.target for v in catalogue.all_variants().values() if v.format == name}
        if file.exists():
            told = set(re.findall(r"(?m)^\[([^]]+)\]", file.read_text(encoding="utf-8")))
            assert targets <= told <= set(devices.names())


#: Where a device or its accelerator may be named beside the table, and why.
ALLOWED = {
    "bot/config/phi-bot.schema.json": "made of the table",
    "bot/localhub/hardware.py": "the flavors that the real Hub lists, which the embedded one mirrors",
    "bot/machines/runners.toml": "rows of machines that have one",
    "bot/toolchains/relock.py": "packages that come with torch, by their own names",
}
OTHERS = {"cpu", "apple", devices.NONE}  #: words of other things too: fonts, compilers, licences
NAMED = re.compile(rf"\b({'|'.join({*devices.names(), *devices.accelerators()} - OTHERS)})(?![a-z])", re.IGNORECASE)


def test_a_device_is_named_in_the_table_alone() -> None:
    naming = {name for name, path in shared_files().items() if said(path, NAMED)}
    assert naming - {"bot/devices/devices.toml"} == ALLOWED.keys()


def test_every_machine_has_a_processor_and_none_is_a_browser() -> None:
    assert here.missing_for("cpu") is None
    assert "browser" in (here.missing_for("webgpu") or "")
    assert here.missing_for("of tomorrow") == "its runtime (of tomorrow) is not known here"


def test_a_wrong_row_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_row(tmp_path, monkeypatch, '[[device]]\nname = "npu"\ncalled = "NPUs"\nneeded = "an NPU"\nhave = ""\n')
    with pytest.raises(MalformedRecordError, match=re.escape("$.missing is missing")):
        devices.all_devices()


def test_a_variant_for_an_unknown_device_is_refused_with_those_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**next(format_folders.rows()), "name": "gguf/npu", "target": "npu"}
    monkeypatch.setattr(format_folders, "rows", lambda: iter([row]))
    with pytest.raises(RecordError, match="gguf/npu is for the device 'npu', which there is not") as caught:
        catalogue.all_variants.__wrapped__()
    assert "Name one of cpu, cuda, dml, webgpu, trtrtx, metal, or add a row" in caught.value.hint


# ---- what this machine has -----------------------------------------------------------------------------------


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program of that name, first on the path of a machine that an NVIDIA GPU is for."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(machine, "system_and_architecture", lambda: ("linux", "x86_64"))
    here._told.cache_clear()
    yield tmp_path / "nvidia-smi"
    here._told.cache_clear()


@shell
def test_a_gpu_is_one_that_its_driver_lists(nvidia_smi: Path) -> None:
    program(nvidia_smi, "15360\n40960")
    assert here.accelerator() == ("nvidia", 15360 << 20)
    assert here.missing_for("cuda") is None


@shell
def test_a_gpu_without_memory_of_its_own_shares_the_machines(nvidia_smi: Path) -> None:
    program(nvidia_smi, "[N/A]")
    assert here.accelerator() == ("nvidia", machine.memory())


@shell
@pytest.mark.parametrize(("text", "code"), [("", 0), ("NVIDIA-SMI has failed", 9)])
def test_a_driver_without_a_gpu_is_none(nvidia_smi: Path, text: str, code: int) -> None:
    program(nvidia_smi, text, code)
    assert here.accelerator() == ("none", 0)
    assert "NVIDIA GPU" in (here.missing_for("cuda") or "")


@shell
def test_a_driver_that_does_not_start_is_none(nvidia_smi: Path) -> None:
    nvidia_smi.write_bytes(b"\x7fELF of another machine")
    nvidia_smi.chmod(0o700)
    assert "NVIDIA GPU" in (here.missing_for("cuda") or "")


def test_a_mac_has_its_own_gpu_and_windows_directml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "system_and_architecture", lambda: ("macos", "arm64"))
    assert here.accelerator() == ("apple", machine.memory())
    assert "DirectML" in (here.missing_for("dml") or "")
    monkeypatch.setattr(machine, "system_and_architecture", lambda: ("windows", "x86_64"))
    assert here.missing_for("dml") is None


def test_a_device_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_npu(tmp_path, monkeypatch, found=f"file = '{tmp_path / 'accel*'}'")
    assert here.missing_for("npu") == "its runtime needs an NPU, and this machine has none"
    (tmp_path / "accel0").touch()
    assert here.missing_for("npu") is None
