"""Names that strangers choose, and lists of a Hub that say anything: they end in one line, or are only text."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot.cli import _main
from bot.errors import UnsafeFileNameError
from bot.hub.client import Hub
from bot.localhub import RunningHub
from bot.records.artifacts import Json
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import client, faulty, shaky, without_syncing
from tests.security.test_bombs import within
from tests.steps import proven

__all__ = ["client", "faulty", "shaky", "without_syncing"]

CONFIG = """
[watch]
authors = ["microsoft"]
include = ["*"]

[publish]
namespace = "me"
"""


def listed(repo_id: str) -> Json:
    """A Phi, as the list of an owner's repos tells of it."""
    return {
        "_id": "0",
        "id": repo_id,
        "modelId": repo_id,
        "sha": "a" * 40,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "cardData": {},
        "siblings": [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}],
        "config": {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"},
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phi-bot.toml").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("command", [("plan",), ("watch",), ("status", "--out", "site")], ids=lambda c: c[0])
@pytest.mark.parametrize(
    "repo_id",
    [
        "just",
        "",
        "/",
        "microsoft/",
        "microsoft/../../evil",
        "microsoft/Phi\n::error::x",
        "microsoft/Phi\u202e4",
        "evil/Phi-4",
        "microsoft/Phi-4@x",
        "microsoft/a/b",
        "microsoft/Phi-4\x1b[31m",
        "microsoft/-rf",
        "microsoft/Phi 4",
        "microsoft/Phi\ud800",
        f"microsoft/{'a' * 5000}",
        "microsoft/<b>",
        "microsoft/$(id)",
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_list_of_names_that_are_none(
    folder: Path, faulty: Proxy, command: tuple[str, ...], repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the Hub allows as a name is not asked of its word: its lists are read as anybody's."""
    faulty.faults.append(Fault(method="GET", path=r"/api/models\?", body=json.dumps([listed(repo_id)]).encode()))
    assert _main([*command, "--endpoint", faulty.url]) == 0
    printed = capsys.readouterr()
    for part in ("Phi", "evil", "rf", "aaaa", "::error"):
        assert part not in printed.out + printed.err
    assert not any("evil" in path for _, path, _ in faulty.seen)


def test_a_hundred_thousand_files_in_a_repo(shaky: Hub, faulty: Proxy, hub: RunningHub) -> None:
    """They are listed, and no more: of what is of no use nothing is kept."""
    release = proven.release(hub)
    tree: list[dict[str, Any]] = [
        {"type": "file", "path": f.path, "size": f.size, "oid": f.digest.partition(":")[2]}
        | ({"lfs": {"oid": f.digest[7:], "size": f.size, "pointerSize": 130}} if f.digest.startswith("sha256:") else {})
        for f in release.files
    ]
    more = [{"type": "file", "path": f"data/{i:06d}/x.py", "size": 1, "oid": "0" * 40} for i in range(100_000)]
    faulty.faults.append(Fault(method="GET", path=r"/tree/", body=json.dumps([*tree, *more]).encode()))

    def look() -> None:
        assert shaky.release(release.repo_id) == release

    within(60, 300, look)


@pytest.mark.parametrize(
    "path",
    [
        "a\n::set-output name=x::y.json",
        "\u202egpj.json",
        "../../x.json",
        "NUL.json",
        "a\\b.json",
        "\x1b]0;x\x07.json",
        "C:x.json",
        "aux",
        "a/../b.json",
        "a//b.json",
        "/etc/passwd",
        "a\r.json",
        "\u2028.json",
        "a.",
        "é" * 200,
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_file_name_is_escaped_wherever_it_is_said(
    folder: Path, hub: RunningHub, faulty: Proxy, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release = proven.release(hub)
    tree = [{"type": "file", "path": path, "size": 1, "oid": "0" * 40}]
    faulty.faults.append(Fault(method="GET", path=r"/tree/", body=json.dumps(tree).encode()))
    code = _main(["plan", release.repo_id, "--endpoint", faulty.url])
    printed = capsys.readouterr()
    assert code == UnsafeFileNameError.exit_code
    assert printed.out == ""
    assert printed.err.isprintable() or printed.err.replace("\n", "").isprintable()
    assert printed.err.isascii()
    assert "::set-output" not in [line[:12] for line in printed.err.splitlines()]
    assert len(printed.err.splitlines()) == 2
