"""What tests of the command line share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.localhub import RunningHub
from tests.cli.world import World


@pytest.fixture
def world(
    hub: RunningHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    for name in [n for n in os.environ if n.startswith(("HF_", "GITHUB_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "PHI_BOT_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield World(hub, tmp_path, capsys)
    signal.signal(signal.SIGTERM, before)
