"""What the machine at hand is."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import machine


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program of that name, first on the path; what it prints is in its file."""
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    machine.nvidia_memory.cache_clear()
    yield program
    machine.nvidia_memory.cache_clear()


def says(program: Path, text: str, code: int = 0) -> None:
    program.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name == "nt", reason="the program is a shell script")
def test_a_gpu_is_one_that_its_driver_lists(nvidia_smi: Path) -> None:
    says(nvidia_smi, "15360")
    assert machine.nvidia_memory() == 15360 << 20
    assert machine.lacks("cuda") is None


@pytest.mark.skipif(os.name == "nt", reason="the program is a shell script")
def test_a_gpu_without_memory_of_its_own_shares_the_machines(nvidia_smi: Path) -> None:
    says(nvidia_smi, "[N/A]")
    assert machine.nvidia_memory() == machine.memory()


@pytest.mark.skipif(os.name == "nt", reason="the program is a shell script")
@pytest.mark.parametrize(("text", "code"), [("", 0), ("NVIDIA-SMI has failed", 9)])
def test_a_driver_without_a_gpu_is_none(nvidia_smi: Path, text: str, code: int) -> None:
    says(nvidia_smi, text, code)
    assert machine.nvidia_memory() == 0
    assert "NVIDIA GPU" in (machine.lacks("cuda") or "")


def test_memory_is_no_more_than_the_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    monkeypatch.setattr(machine, "_CGROUP_LIMITS", (str(limit), str(tmp_path / "none")))
    whole = machine.memory()
    limit.write_text(f"{whole // 2}\n")
    assert machine.memory() == whole // 2


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above(tmp_path: Path) -> None:
    there = machine.free_disk(tmp_path)
    assert machine.free_disk(tmp_path / "not" / "there") == pytest.approx(there, rel=0.1)
