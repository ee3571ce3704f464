"""The wheel alone: installed without extras in an environment of its own, away from the checkout."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bot.cli.extras import HUB_MODULES
from bot.errors import ConfigError, NotReadyError, RecordError
from bot.toolchains.lock import canonical
from tests.page_reader import ROOT

# Each command as a person first mistypes it: what is required is there, and is not what it should be.
EVERY_COMMAND = """
import contextlib, io, json, sys, traceback
import click
from bot.cli import _main, cli

def commands(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command

def wrong(command):
    words = []
    for p in command.params:
        if isinstance(p, click.Option) and p.required:
            words += [p.opts[0], "x=y"]
        elif p.name == "config":
            words += ["--config", "none.toml"]
    return words + ["none.json" for p in command.params if isinstance(p, click.Argument) and p.required]

def said(arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = _main(list(arguments))
        except BaseException:
            code = traceback.format_exc()
    return {"arguments": arguments, "code": code, "said": out.getvalue()}

json.dump([said((*path, *words)) for path, c in commands(cli) for words in (["--help"], wrong(c))], sys.stdout)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel, and the core's locked requirements alone."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    run(sys.executable, "-I", "-m", "venv", str(folder / "env"), cwd=folder)
    python = folder / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    install = (str(python), "-I", "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile")
    lock = ROOT / "bot" / "action" / "requirements.txt"  # tests/action/test_install.py: of the core, and no more
    run(*install, "--require-hashes", "--only-binary", ":all:", "-r", str(lock), cwd=folder)
    run(*install, str(next(folder.glob("*.whl"))), cwd=folder)
    return python


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = ended(*command, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with nothing of ours in its environment."""
    ours = ("HF_", "GITHUB_", "PHI_BOT", "PYTHON", "VIRTUAL_ENV")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    clean |= {"HF_HOME": str(cwd / "hf"), "PHI_BOT_CACHE": str(cwd / "cache")} | environment
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)


def phi_bot(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return ended(str(python.with_name("phi-bot")), *arguments, cwd=cwd)


@pytest.mark.process
def test_every_command_helps_and_refuses_without_the_extras(python: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("{")
    told: list[dict[str, Any]] = json.loads(run(str(python), "-I", "-c", EVERY_COMMAND, cwd=tmp_path))
    assert len(told) > 60
    for one in told:
        where = " ".join(one["arguments"])
        assert isinstance(one["code"], int), f"{where}\n{one['code']}"
        assert "Traceback" not in one["said"], where
        if one["arguments"][-1] == "--help":
            assert (one["code"], one["said"][:6]) == (0, "Usage:"), where
        elif one["code"] >= 10:
            assert re.match(r"phi-bot: .+\n {9}.+\n", one["said"]), where
    refused = {one["code"] for one in told}
    assert {ConfigError.exit_code, NotReadyError.exit_code, 2} <= refused


@pytest.mark.process
@pytest.mark.parametrize("command", ["demo", "hub serve hub", "hub token hub me", "hub trust hub me/x --claim a=b"])
def test_a_command_that_needs_the_extra_says_how_to_install_it(python: Path, tmp_path: Path, command: str) -> None:
    done = phi_bot(python, *command.split(), cwd=tmp_path)
    assert done.returncode == NotReadyError.exit_code
    assert done.stderr == (
        "phi-bot: the embedded Hub needs packages that are not installed: cronsim, nh3\n"
        "         Install them with: pip install 'phi-bot[hub]'\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_files_in_the_wheel_are_found_away_from_the_checkout(python: Path, tmp_path: Path) -> None:
    (where,) = run(str(python), "-I", "-c", "import bot; print(bot.__file__)", cwd=tmp_path).splitlines()
    assert Path(where).is_relative_to(python.parents[1])
    for arguments in (["variants"], ["toolchain", "list"], ["init"]):  # its tables, its locks, its schema
        done = phi_bot(python, *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    (tmp_path / "report.json").write_text(json.dumps({"artifacts": [], "failures": []}))
    announced = phi_bot(python, "announce", "report.json", cwd=tmp_path)  # its templates
    assert (announced.returncode, "Nothing" in announced.stdout) == (0, True), announced.stderr
    assert phi_bot(python, "build", "report.json", cwd=tmp_path).returncode == RecordError.exit_code


def test_the_modules_that_are_looked_for_are_those_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[<>=\[]", text)[0] for text in project["optional-dependencies"]["hub"]}
    modules = {"cronsim": "cronsim", "markdown-it-py": "markdown_it", "nh3": "nh3", "pyjwt": "jwt"}
    assert {modules[canonical(name)] for name in named} == set(HUB_MODULES)
