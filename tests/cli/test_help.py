"""The help of the command line: its commands stand under headings."""

import importlib
import pkgutil
import re
import subprocess
import sys

import click
from click.testing import CliRunner

import bot.cli
from bot.cli import cli
from bot.cli.commands import GROUPS


def _defined() -> set[str]:
    """Every command that a module of bot.cli defines, but for those that are called through another."""
    found: dict[int, click.Command] = {}
    for module in pkgutil.iter_modules(bot.cli.__path__, "bot.cli."):
        if module.name.endswith(".__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, click.Command):
                found[id(value)] = value
    inner = {id(c) for group in found.values() if isinstance(group, click.Group) for c in group.commands.values()}
    return {str(c.name) for key, c in found.items() if key not in inner}


def test_every_command_is_in_exactly_one_group() -> None:
    grouped = [row.name for rows in GROUPS.values() for row in rows]
    assert sorted(grouped) == sorted(_defined())
    assert set(grouped) == set(cli.commands)


def test_the_help_lists_the_commands_under_their_headings() -> None:
    text = CliRunner().invoke(cli, ["--help"], catch_exceptions=False).output
    listed: dict[str, list[str]] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\S[^:]*):", line):
            names = listed.setdefault(heading[1], [])
        elif entry := re.match(r"  ([a-z]+)  ", line):
            names.append(entry[1])
    del listed["Options"]
    assert listed == {heading: [row.name for row in rows] for heading, rows in GROUPS.items()}


def test_the_help_describes_each_command_in_a_whole_sentence() -> None:
    text = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    for command in cli.commands.values():
        sentence = (command.help or "").split("\n\n")[0].split(". ")[0].removesuffix(".")
        assert f" {command.name} {' '.join(sentence.split())}. " in f"{text} "


def test_a_row_says_what_the_command_says_of_itself() -> None:
    for row in (row for rows in GROUPS.values() for row in rows):
        command = cli.commands[row.name]
        assert (command.name, command.get_short_help_str(limit=1000)) == (row.name, row.sentence)


def test_the_help_imports_no_command() -> None:
    code = "import sys; from bot.cli import _main; _main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert not imported & {f"bot.cli.{row.module}" for rows in GROUPS.values() for row in rows}
    assert not imported & {"huggingface_hub", "rich", "jinja2"}
