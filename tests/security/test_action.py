"""Names that strangers choose, on their way through the action: outputs, variables, annotations and the summary."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from bot.errors import RemoteCodeError
from tests.action.log import Command, commands
from tests.action.runner import FILES, read_pairs
from tests.markdown_reader import blocks, inlines
from tests.source import models
from tests.workflows.reading import ROOT

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="no file system there takes such names"),
]

NAMES = [
    "::error title=x::injected",
    "##[set-output name=matrix]injected",
    "matrix=injected",
    "matrix<<EOF",
    "$(touch injected)",
    "`touch injected`",
    "${{ secrets.PROMOTE_TOKEN }}",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1)) @everyone #1",
    "--no-dry-run",
    "%0A::error::injected",
]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What the last step of the action left for the runner."""

    code: int
    commands: list[Command]
    outputs: dict[str, str]
    left: dict[str, str]


def run(folder: Path, workspace: Path, **inputs: str) -> Ran:
    """Run the step of the action that runs phi-bot, as the runner does."""
    temp = folder / "temp"
    temp.mkdir()
    files = {name: folder / name for name in FILES}
    for file in files.values():
        file.touch()
    given = {f"INPUT_{name.upper().replace('-', '_')}": value for name, value in inputs.items()}
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-m", "bot.action", "run"],
        cwd=workspace,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "HF_ENDPOINT": "http://127.0.0.1:9"}
        | {"GITHUB_WORKSPACE": str(workspace), "RUNNER_TEMP": str(temp), "GITHUB_REPOSITORY": "o/r"}
        | {name: str(file) for name, file in files.items()}
        | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    left = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    return Ran(
        code=done.returncode, commands=commands(done.stdout), outputs=read_pairs(left["GITHUB_OUTPUT"]), left=left
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_a_hostile_name(tmp_path: Path, name: str) -> None:
    """Its folder, its configuration, its card and its template all say the same."""
    workspace = tmp_path / "workspace"
    config = models.CONFIG | {"architectures": [f"\n{name}"], "model_type": name}
    models.write(
        workspace / name,
        models.files(
            config__json=json.dumps(config).encode(),
            tokenizer_config__json=json.dumps({"chat_template": name, "bos_token": f"\x1b]0;{name}\x07"}).encode(),
        )
        | {"README.md": f"---\nlicense_link: {json.dumps(name)}\nphi_bot: {{builds: {{}}}}\n---\n{name}\n".encode()},
    )
    ran = run(tmp_path, workspace, command="run", models=f"./{name}", variants="gguf/q8_0")
    assert ran.code == RemoteCodeError.exit_code, ran.commands
    assert {command.name for command in ran.commands} == {"group", "endgroup", "error"}
    (error,) = [command for command in ran.commands if command.name == "error"]
    assert error.properties == {"title": "phi-bot"}
    assert "asks for code from its repo" in error.data
    assert set(ran.outputs) == set(yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["outputs"])
    assert ran.outputs["matrix"] == '{"include": []}'
    assert all(ran.left[file] == "" for file in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE"))
    summary = ran.left["GITHUB_STEP_SUMMARY"]
    assert {tag for _, tag, _ in blocks(summary)} <= {"h2", "p", ""}
    assert {token.type for token in inlines(summary)} <= {"text", "softbreak"}
    assert not any("injected" in path.name for path in tmp_path.rglob("injected*"))
