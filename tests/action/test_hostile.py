"""Texts of strangers in every input: nothing but an error comes of it."""

import json
from pathlib import Path

import pytest

from bot.action.inputs import TAKEN_BY, Inputs
from tests.action.runner import Runner

pytestmark = pytest.mark.process

HOSTILE = (
    "\"'$(touch hacked)`touch hacked`;touch hacked|touch hacked\n"
    "::error::hacked\r::add-mask::hacked\n##[error]hacked\nEOF\nempty=hacked\n"
    "${{ github.token }} %0A::error::hacked --help ../../hacked <script>alert(1)</script>"
)


@pytest.mark.parametrize("name", [*Inputs.__dataclass_fields__, "python"])
def test_an_input_of_a_stranger_is_an_error_and_nothing_else(runner: Runner, name: str) -> None:
    command = TAKEN_BY.get(name.replace("_", "-"), ("run",))[0]
    (runner.workspace / "side").mkdir()
    needed = {"reports": "side", "base": "side", "head": "side", "pull_request": "7"}
    others = {n: v for n, v in needed.items() if command in TAKEN_BY[n.replace("_", "-")]}
    before = sorted(runner.workspace.iterdir())
    done = runner.use(**({"command": command} | others | {name: HOSTILE}))
    assert done.failed
    assert done.code == (46 if name == "python" else 10), done.log
    assert [command.name for command in done.commands if command.name not in ("group", "endgroup")] == ["error"]
    assert done.errors[0].data.count("\n") == (0 if name == "python" else 1)
    assert "Traceback" not in done.log
    assert sorted(runner.workspace.iterdir()) == before
    assert not list(runner.temp.rglob("hacked"))
    if name != "python":
        assert json.loads(done.outputs["artifacts"]) == []
        assert done.outputs["empty"] == "true"
        assert "<script>" not in done.summary
        assert Path(done.outputs["summary"]).read_text() == done.summary


def test_a_hostile_name_of_a_folder_is_only_a_name(runner: Runner) -> None:
    name = "a $(touch hacked) `touch hacked` ::error::x ##[error]y"
    folder = runner.workspace / name
    folder.mkdir()
    (folder / "config.json").write_text("[]")
    done = runner.use(models=name, cache="false")
    assert done.code == 20, done.log
    assert len(done.errors) == 1
    assert not list(runner.workspace.rglob("hacked"))
    assert "Traceback" not in done.log
