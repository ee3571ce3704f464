"""The environment that the action installs: what it holds, what pip sees of ours, and what is said where it fails."""

import re
import sys
from pathlib import Path

import pytest

from bot.action import install
from tests.action.log import commands
from tests.action.runner import ROOT

ACTION_LOCK = ROOT / "bot" / "action" / "requirements.txt"


def entries(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Read a lock: version and hashes of each package."""
    found = {}
    for text in re.split(r"(?<!\\)\n", file.read_text()):
        if match := re.match(r"([a-z0-9-]+)==(\S+)", text):
            found[match[1]] = match[2], frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
    return found


def test_the_installed_packages_are_among_the_tested_ones() -> None:
    action, tested = entries(ACTION_LOCK), entries(ROOT / "requirements.txt")
    assert {"huggingface-hub", "pygithub", "jinja2", "click", "rich"} <= set(action)
    assert "pytest" not in action
    assert {name: tested[name] for name in action} == action
    assert all(hashes for _, hashes in action.values())


def test_pip_sees_no_token_and_no_setting_of_pythons() -> None:
    ours = {"PATH": "/bin", "HTTPS_PROXY": "http://proxy", "PIP_INDEX_URL": "https://pypi.example/simple"}
    secrets = {"HF_TOKEN": "x", "GITHUB_TOKEN": "x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x", "INPUT_MODELS": "x"}
    assert install.environment(ours | secrets | {"PYTHONPATH": "/evil", "PIP_TARGET": "/evil"}) == ours


def test_an_old_python_is_said_with_those_that_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert install.main({"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "out")}) == 46
    (said,) = commands(capsys.readouterr().out)
    assert "phi-bot takes Python 3.11 to 3.14" in said.data
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_a_failed_installation_leaves_nothing_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"click==8.5.1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(install, "_REQUIREMENTS", lock)
    temp = tmp_path / "temp"
    temp.mkdir()
    environ = {"RUNNER_TEMP": str(temp), "GITHUB_OUTPUT": str(tmp_path / "out"), "PIP_NO_INDEX": "1", "PATH": "/bin"}
    assert install.main(environ) == 46
    (said,) = commands(capsys.readouterr().out)
    message, hint = said.data.split("\n")
    assert message.startswith("the environment of phi-bot could not be made: ")
    assert "click==8.5.1" in message
    assert "package index" in hint
    assert list(temp.iterdir()) == []
    assert not (tmp_path / "out").exists()
