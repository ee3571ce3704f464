"""The machine at hand."""

import os
from pathlib import Path

import pytest

from bot.system import machine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any limit: its tree of groups, and beside it the file that says where this process is."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    return tmp_path / "groups"


def limit(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


# What /proc/self/cgroup says, and where the limits of memory and of processors are written then.
LAYOUTS = {
    "a container, version 2": ("0::/", "memory.max", "cpu.max"),
    "a service, version 2": ("0::/s.slice/bot.service", "s.slice/bot.service/memory.max", "s.slice/cpu.max"),
    "the slice of a service, version 2": ("0::/a.slice/bot.service", "a.slice/memory.max", "a.slice/cpu.max"),
    "a container, version 1": ("9:memory:/\n3:cpu,cpuacct:/", "memory/memory.limit_in_bytes", "cpu/"),
    "a group, version 1": ("9:memory:/one/two\n3:cpu:/one", "memory/one/two/memory.limit_in_bytes", "cpu/one/"),
    "a group that cannot be seen": ("9:memory:/docker/abc\n3:cpu:/docker/abc", "memory/memory.limit_in_bytes", "cpu/"),
}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="groups are Linux's")
@pytest.mark.parametrize(("own", "memory", "cpu"), LAYOUTS.values(), ids=LAYOUTS)
def test_usable_memory_is_at_most_the_containers(groups: Path, own: str, memory: str, cpu: str) -> None:
    whole, count = machine.memory(), machine.processors()
    assert (whole, count) == (machine.whole_memory(), len(os.sched_getaffinity(0)))
    limit(groups.parent / "own", own)
    limit(groups / memory, str(whole // 2))
    if cpu.endswith("/"):  # version 1
        limit(groups / cpu / "cpu.cfs_quota_us", "50000")
        limit(groups / cpu / "cpu.cfs_period_us", "100000")
    else:
        limit(groups / cpu, "50000 100000")
    assert machine.memory() == whole // 2
    assert machine.processors() == 1  # half of one


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="groups are Linux's")
def test_a_group_without_a_limit_leaves_the_machines(groups: Path) -> None:
    whole, count = machine.memory(), machine.processors()
    limit(groups.parent / "own", "9:memory:/one\n3:cpu:/one\n0::/one")
    limit(groups / "one" / "memory.max", "max")
    limit(groups / "one" / "cpu.max", "max 100000")
    limit(groups / "memory" / "memory.limit_in_bytes", "9223372036854771712")  # version 1's way to say none
    limit(groups / "cpu" / "cpu.cfs_quota_us", "-1")
    limit(groups / "cpu" / "cpu.cfs_period_us", "100000")
    assert (machine.memory(), machine.processors()) == (whole, count)


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above(tmp_path: Path) -> None:
    there = machine.free_disk(tmp_path)
    assert machine.free_disk(tmp_path / "not" / "there") == pytest.approx(there, rel=0.1)
