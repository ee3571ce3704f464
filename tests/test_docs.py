"""The documentation says what is: its commands run, its tables are the code's, its links lead somewhere."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import click
import pytest

from bot import catalogue, config, errors, toolchains
from bot.cli import cli
from bot.cli.options import _COMMON
from bot.config import file as config_file
from bot.config import text
from bot.errors import PhiBotError
from bot.formats.registry import all_formats
from bot.hub import client
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from bot.records import artifacts
from bot.records.artifacts import Record, RepoRecord, Variant
from bot.records.base import Sha256, fields_of
from tests import page_reader
from tests.page_reader import PAGES, ROOT, Block, Command, name_of
from tests.source import models

DOCS = ROOT / "docs"
CONSOLE = page_reader.blocks("console")
COMMANDS = [c for b in CONSOLE for c in page_reader.commands(b)]
each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# ---- links ---------------------------------------------------------------------------------------------------


@each_page
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for link in page_reader.links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        assert file.is_relative_to(ROOT), link
        if anchor:
            assert anchor in page_reader.headings(file), link


def test_the_index_lists_every_page() -> None:
    listed = set(page_reader.links(DOCS / "README.md"))
    assert {p.name for p in DOCS.glob("*.md")} - {"README.md"} <= listed


# ---- commands ------------------------------------------------------------------------------------------------


def _all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _all_commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _options(command: click.Command) -> set[str]:
    options = (p for p in command.params if isinstance(p, click.Option) and not p.hidden)
    return {o for p in options for o in p.opts if o.startswith("--")}


ALL_COMMANDS = dict(_all_commands(cli))


@pytest.fixture(scope="module")
def common() -> set[str]:
    @click.command
    def nothing() -> None:
        pass

    for option in _COMMON:
        option(nothing)
    return _options(nothing)


def test_the_common_options_are_described(common: set[str]) -> None:
    (rows,) = page_reader.tables(page_reader.sections(DOCS / "command-line.md")["Options of every step"])
    assert {re.match(r"`(--[a-z-]+)", row[0])[1] for row in rows} == common  # type: ignore[index]


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_is_described_with_its_own_options(name: str, common: set[str]) -> None:
    section = page_reader.sections(DOCS / "command-line.md")[f"phi-bot {name}"]
    options = _options(ALL_COMMANDS[name])
    shared = common if common <= options else set()
    assert ("options of every step" in section.lower()) == bool(shared)
    described = {re.match(r"`(--[a-z-]+)", row[0])[1] for table in page_reader.tables(section) for row in table}  # type: ignore[index]
    assert described == options - shared
    examples = [
        c for b in CONSOLE for c in page_reader.commands(b) if f"phi-bot {name}" in c.text and b.text in section
    ]
    assert examples, "an example"


def test_no_command_is_described_that_is_not_there() -> None:
    described = {
        h.removeprefix("phi-bot ") for h in page_reader.sections(DOCS / "command-line.md") if h.startswith("phi-bot ")
    }
    assert described == set(ALL_COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=[f"{c.block.name} {c.text[:50]}" for c in COMMANDS])
def test_every_command_of_an_example_is_one(command: Command) -> None:
    for words in page_reader.calls(command.text):
        if words[0] == "phi-bot" or words[0].endswith("/phi-bot"):
            _parse(cli, words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif words[0].endswith("python") and words[1] == "-m":
            module = ROOT / words[2].replace(".", "/")
            assert words[2] in ("pytest", "venv", "pip") or module.exists() or module.with_suffix(".py").exists(), words


def _parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Parse a command line as the real one would; run nothing."""
    try:
        context = command.make_context(command.name, list(words), parent=parent)
    except click.exceptions.Exit:  # --help, --version
        return
    if isinstance(command, click.Group):
        name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None, name
        _parse(inner, rest, context)


RUN = [b for b in CONSOLE if b.info == "console run"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a person with the bot on their path, an embedded Hub, and releases on it."""
    home = tmp_path_factory.mktemp("home")
    with serve(home / "hub") as hub:
        yield _environment(home, hub)


def _environment(home: Path, hub: RunningHub) -> dict[str, str]:
    for model in ("Phi-4-mini-instruct", "Phi-3.5-mini-instruct"):
        client.connect(hub.url, hub.token).commit(
            f"microsoft/{model}",
            files=dict(models.files()),
            delete=(),
            parent=None,
            message="Release",
            private=False,
            task=_task(),
        )
    programs = home / "bin"
    programs.mkdir()
    program = programs / "phi-bot"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bot.cli "$@"\n')
    program.chmod(0o755)
    temporary = home / "tmp"  # `phi-bot clean` lists what killed processes left in the temporary folder
    temporary.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PHI_BOT", "GITHUB_"))}
    return kept | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PHI_BOT_CACHE": str(home / "cache"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "COLUMNS": "200",
    }


def _task() -> Any:
    with Silent().task("") as task:
        return task


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="the examples are for a Unix shell")
@pytest.mark.parametrize("block", RUN, ids=[b.name for b in RUN])
def test_an_example_that_is_marked_to_run_prints_the_output_shown(
    block: Block, shell: dict[str, str], tmp_path: Path
) -> None:
    for command in page_reader.commands(block):
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=tmp_path,
            env=shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
        assert re.fullmatch(_pattern(command.output), printed), f"$ {command.text}\n{printed}"


def _pattern(shown: str) -> str:
    """Return what matches an output as it is shown: … stands for anything, and alone on a line for any lines."""
    lines = (".*".join(map(re.escape, line.split("…"))) for line in shown.splitlines())
    return "".join("(?:.*\n)*" if line == ".*" else f"{line}\n" for line in lines)


def test_some_examples_are_run() -> None:
    assert len(RUN) >= 4


# ---- other blocks --------------------------------------------------------------------------------------------


TOML = page_reader.blocks("toml")


@pytest.mark.parametrize("block", TOML, ids=[b.name for b in TOML])
def test_toml_is_a_config_or_a_row_of_the_catalogue(block: Block, tmp_path: Path) -> None:
    rows = tomllib.loads(block.text).get("variant")
    if rows is None:
        file = tmp_path / "phi-bot.toml"
        file.write_text(block.text)
        config.load(file, environ={})
    else:
        for row in rows:
            Variant.from_json(row)


JSON = page_reader.blocks("json")


@pytest.mark.parametrize("block", JSON, ids=[b.name for b in JSON])
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@each_page
def test_every_variant_that_is_named_is_in_the_catalogue(page: Path) -> None:
    formats = "|".join({v.format for v in catalogue.all_variants().values()})
    named = rf"(?<![\w./-])((?:{formats})/[a-z0-9_.*-]*[a-z0-9_*](?::(?:SIZE|[\d.]+\w+))?)"
    for name in re.findall(named, page.read_text(encoding="utf-8")):
        assert catalogue.select([name.replace("SIZE", "4.2GB")]), name


# ---- tables that are the code's --------------------------------------------------------------------------------


def test_the_keys_of_the_configuration_are_those_of_the_code() -> None:
    expected = [
        [f"`{'.'.join(at)}`", f"`{text.shown_default(cls, at[-1])}`"] for at, cls in config_file.keys(config.Config)
    ]
    found = [row[:2] for table in page_reader.tables((DOCS / "configuration.md").read_text()) for row in table]
    keys = [row for row in found if re.match(r"`[a-zA-Z_.0-9]+`$", row[0])]
    assert keys == [[k, _shown(k, default)] for k, default in expected]


_NONE = {f"`{'.'.join(at)}`" for at, cls in config_file.keys(config.Config) if getattr(cls, at[-1], 0) is None}

_NEEDED = {f"`{'.'.join(at)}`" for at, cls in config_file.keys(config.Config) if at[-1] in fields_of(cls)[1]}


def _shown(key: str, default: str) -> str:
    """Return what the table shows for a key without a fixed default."""
    if key in _NONE:
        return "none"
    if key in _NEEDED:
        return "needed"
    return {"`build.work`": "the cache", "`build.threads`": "all"}.get(key, default)


def test_the_exit_codes_are_those_of_the_code() -> None:
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, PhiBotError)]
    expected = {(str(c.exit_code), c.__name__): c.__doc__ for c in classes if hasattr(c, "exit_code")}
    rows = [row for table in page_reader.tables((DOCS / "exit-codes.md").read_text()) for row in table if len(row) == 4]
    assert {(code, name.strip("`")): f"{meaning}." for code, name, meaning, _ in rows} == expected
    codes = [int(code) for code, *_ in rows]
    assert codes == sorted(codes)
    assert len(codes) == len(set(codes))


def _reachable(cls: type[Record]) -> Iterator[type[Record]]:
    yield cls
    for hint in typing.get_type_hints(cls).values():
        inner = next((a for a in typing.get_args(hint) if inspect.isclass(a)), hint)
        if inspect.isclass(inner) and issubclass(inner, Record):
            yield from _reachable(inner)


REACHABLE = list(dict.fromkeys(_reachable(RepoRecord)))


@pytest.mark.parametrize("cls", REACHABLE, ids=[c.__name__ for c in REACHABLE])
def test_the_fields_of_the_record_are_those_of_the_code(cls: type[Record]) -> None:
    (rows,) = page_reader.tables(page_reader.sections(DOCS / "record.md")[cls.__name__])
    hints = typing.get_type_hints(cls, include_extras=True)
    assert [row[:2] for row in rows] == [[f"`{f.name}`", _type(hints[f.name])] for f in dataclasses.fields(cls)]


def _type(hint: Any) -> str:
    """Say a field's type as the page does."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return {"Sha256": "64 hex digits", "Commit": "40 hex digits"}.get(_alias(hint)) or _type(args[0])
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in args)
    if origin in (typing.Union, types.UnionType):
        return f"{_type(args[0])}, or null"
    if origin is tuple:
        return f"list of {_type(args[0])}"
    if origin is dict:
        return "object"
    if inspect.isclass(hint) and issubclass(hint, Record):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[hint]


def _alias(hint: Any) -> str:
    return {Sha256: "Sha256", artifacts.Commit: "Commit"}.get(hint, "")


def test_the_example_of_a_record_is_one() -> None:
    (block,) = (b for b in JSON if b.page.name == "record.md")
    assert RepoRecord.from_json(json.loads(block.text)).version == artifacts.RECORD_VERSION


def test_files_are_published_where_the_documentation_says() -> None:
    (rows,) = page_reader.tables(page_reader.sections(DOCS / "variants.md")["Where they are published"])
    for name, repo, folder in ([cell.strip("`") for cell in row] for row in rows):
        variant = catalogue.all_variants()[name]
        form = all_formats()[variant.format]
        assert (repo, folder) == (f"Phi-4{form.repo_suffix(variant)}", form.path_in_repo(variant)), name


def test_toolchains_that_are_described_are_there() -> None:
    (rows,) = page_reader.tables(page_reader.sections(DOCS / "toolchains.md")["The toolchains"])
    assert {row[0].strip("`") for row in rows} <= set(toolchains.names())
