"""The doctor: one finding a thing, in words, and never a secret."""

import functools
import json
import sys
from pathlib import Path

import pytest

from bot import devices, format_folders, toolchains
from bot.cli.diagnose import Finding, diagnose
from bot.errors import HubUnreachableError
from bot.printable import size
from bot.system import machine
from bot.toolchains import system
from tests.toolchains.index import HEAD, lock, wheel

compiles = functools.cache(system._compiles)  # it takes half a second


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No toolchain is installed, and there is no token."""
    monkeypatch.setattr(system, "_compiles", compiles)
    monkeypatch.setenv("PHI_BOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_TOKEN_PATH", "CXX"):
        monkeypatch.delenv(name, raising=False)


def find(name: str, work: Path) -> Finding:
    (finding,) = (f for f in diagnose(work, lambda: None) if f.name == name)
    return finding


def test_everything_is_looked_at_and_nothing_is_changed(tmp_path: Path) -> None:
    found = diagnose(tmp_path / "work", lambda: "as somebody")
    names = [f.name for f in found]
    for name in ("Python", "C++ compiler", "git", "disk for toolchains", "disk for work", "token", "Hub"):
        assert names.count(name) == 1
    assert [n for n in names if n.startswith("toolchain ")] == [f"toolchain {n}" for n in toolchains.names()]
    assert [n for n in names if n.startswith("device ")] == [f"device {n}" for n in devices.names()]
    assert all(f.what_to_do for f in found if f.status != "ok")
    assert found[-1].detail == "as somebody"
    assert list(tmp_path.iterdir()) == []
    assert [Finding.from_json(json.loads(json.dumps(f.to_json()))) for f in found] == found


def test_the_hub_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    def refuse() -> None:
        raise HubUnreachableError("http://localhost:1 does not answer", hint="Is it running?")

    hub = diagnose(tmp_path, refuse)[-1]
    expected = Finding(
        name="Hub", status="missing", detail="http://localhost:1 does not answer", what_to_do="Is it running?"
    )
    assert hub == expected


def test_a_token_is_found_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("token", tmp_path).status == "warn"
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_theSecretInTheFile")
    assert find("token", tmp_path).detail == f"in {tmp_path / 'hf' / 'token'}"
    monkeypatch.setenv("HF_TOKEN", "hf_theSecretInTheVariable")
    assert find("token", tmp_path).detail == "in the environment variable HF_TOKEN"
    assert "theSecret" not in str(diagnose(tmp_path, lambda: None))


def test_the_memory_shown_is_the_planners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine.whole_memory()
    monkeypatch.setattr(machine, "memory", lambda: whole)
    assert find("memory", tmp_path).detail == size(whole)
    monkeypatch.setattr(machine, "memory", lambda: 2_000_000_000)  # in a container
    memory = find("memory", tmp_path)
    assert (memory.status, memory.detail) == ("warn", f"2.0 GB of the machine's {size(whole)} may be used here")


def test_a_missing_compiler_matters_only_where_a_toolchain_is_not_yet_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("C++ compiler", tmp_path).status == "missing"
    assert find("git", tmp_path).status == "warn"
    monkeypatch.setattr(toolchains, "FOLDER", tmp_path)
    monkeypatch.setattr(format_folders, "FOLDER", tmp_path)  # where no toolchain is compiled
    (tmp_path / "tiny.txt").write_text(lock(wheel(tmp_path, "first")))
    compiler = find("C++ compiler", tmp_path)
    assert (compiler.status, compiler.detail) == ("warn", "none, and every toolchain that is compiled is installed")


def test_a_toolchain_of_another_system_is_missing_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchains, "FOLDER", tmp_path)
    monkeypatch.setattr(format_folders, "FOLDER", tmp_path)
    text = lock(wheel(tmp_path, "first"))
    head = HEAD.format(disk=1, imports="")
    (tmp_path / "tiny.txt").write_text(
        text.replace(head, "# /// toolchain\n# disk = 1\n# imports = []\n# platforms = {}\n# ///\n")
    )
    tiny = find("toolchain tiny", tmp_path)
    assert tiny.status == "missing"
    assert tiny.detail.startswith("cannot be installed here: it is locked for ")


def test_a_disk_that_cannot_hold_the_toolchains_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchains, "FOLDER", tmp_path)
    monkeypatch.setattr(format_folders, "FOLDER", tmp_path)
    (tmp_path / "tiny.txt").write_text(lock(wheel(tmp_path, "first"), disk=10**16))
    disk = find("disk for toolchains", tmp_path)
    assert disk.status == "missing"
    assert disk.detail.endswith("and the toolchains that are not installed take 10000.0 TB")


def test_toolchains_of_other_locks_are_named(tmp_path: Path) -> None:
    old = tmp_path / "cache" / "toolchains" / f"gguf-{'0' * 16}-cp311-linux-x86_64"
    old.mkdir(parents=True)
    other = find("other toolchains", tmp_path)
    assert other.status == "warn"
    assert str(old) in str(other.what_to_do)


def test_the_python_at_hand_is_named(tmp_path: Path) -> None:
    assert sys.executable in find("Python", tmp_path).detail
