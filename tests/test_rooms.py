"""Who may know whom: the rooms of CONTRIBUTING.md, held against the imports that the code has."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bot

BOT = Path(bot.__file__).parent
PAGE = BOT.parent / "CONTRIBUTING.md"

#: The rooms from the ground up: what stands in one imports what stands below it, and nothing above. A folder of a
#: format is one room, and its worker/ and native/ are others.
FLOORS = (
    "printable",
    "errors",
    "records system",
    "devices format_folders",
    "texts progress sandbox",
    "source workspace toolchains worker",
    "formats",
    "formats/NAME formats/NAME/worker formats/NAME/native catalogue hub",
    "config",
    "context",
    "machines",
    "building",
    "state",
    "watching",
    "pages",
    "proving",
    "localhub github",
    "publishing",
    "hf_jobs live checking",
    "steps",
    "reconvert",
    "cli",
    "action",
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}

#: What runs inside a toolchain, where nothing of the bot's own environment is installed.
WORKERS = {"worker", "formats/NAME/worker"}
RUNTIMES = {
    "torch",
    "numpy",
    "transformers",
    "llama_cpp",
    "onnxruntime_genai",
    "onnxruntime",
    "openvino",
    "mlx",
    "mlx_lm",
    "compressed_tensors",
    "matplotlib",
    "PIL",
}
#: What merges adapters, on the way from a Hub to a toolchain: arithmetic on numbers that are read as nothing else.
MERGING = BOT / "source" / "merging.py"
#: Packages that one room alone imports.
OWN = {"huggingface_hub": "hub", "github": "github", "securesystemslib": "publishing"}
#: Rooms that may know less than what is below them.
ONLY = {
    "records": {"errors"},
    "worker": {"records", "sandbox", "texts"},
    "formats/NAME/worker": {"devices", "records", "sandbox", "worker"},
    "formats": {"devices", "format_folders", "records", "texts", "toolchains"},
    "formats/NAME": {"records", "formats"},
    "formats/NAME/native": {"toolchains"},
    "localhub": {"errors", "pages", "printable", "records", "system"},
}
#: ... and of a room, these modules alone.
MODULES = {("localhub", "pages"): {"bot.pages.templates"}}

FILES = sorted(BOT.rglob("*.py"))
DOTTED = {".".join(p.relative_to(BOT.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> tuple[str, ...]:
    return tuple(_imports(parsed(path)))


def _imports(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in DOTTED else node.module


def room(path: Path) -> str:
    """Return ``hub`` of ``bot/hub/client.py``; "" for the package itself, which holds the version."""
    parts = path.relative_to(BOT).with_suffix("").parts
    if parts[0] == "formats" and len(parts) > 2:
        return f"formats/NAME/{parts[2]}" if parts[2] in ("worker", "native") else "formats/NAME"
    return parts[0].removesuffix("__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(BOT)))
def test_a_module_imports_only_rooms_below_its_own(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        if name not in DOTTED:
            continue
        other = room(DOTTED[name])
        if other in (own, ""):
            continue
        assert FLOOR[other] < FLOOR[own] or (own, other) == ("formats/NAME/worker", "worker"), name
        assert other in ONLY.get(own, {other}), name
        assert name in MODULES.get((own, other), {name})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(BOT)))
def test_a_package_is_imported_by_the_room_that_is_for_it(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    if room(path) not in WORKERS:
        assert not tops & (RUNTIMES - ({"numpy"} if path == MERGING else set()))
    for package, owner in OWN.items():
        if room(path) != owner:
            assert package not in tops


def test_one_format_does_not_know_another() -> None:
    for path in FILES:
        if room(path).startswith("formats/NAME"):
            own = path.relative_to(BOT).parts[1]
            for name in imports(path):
                if name in DOTTED and room(DOTTED[name]).startswith("formats/NAME"):
                    assert name.split(".")[2] == own, path


def test_every_room_has_its_line_on_the_page_and_a_floor() -> None:
    there = {name for path in FILES if "/" not in (name := room(path))} - {""}
    assert there == {name for name in FLOOR if "/" not in name}
    chapter = PAGE.read_text(encoding="utf-8").split("\n## Rooms\n")[1].split("\n## ")[0]
    named = re.findall(r"^      (\w+)(?:/|\.py) ", chapter, re.MULTILINE)
    assert set(named) == there
    assert len(named) == len(set(named))


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [a.arg for a in (given.vararg, given.kwarg) if a is not None]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("click.command" in ast.unparse(d) or ".command(" in ast.unparse(d) for d in function.decorator_list)


#: Functions of more than six parameters, and why. Parameters of a command are its options, so commands may have more.
LONG = {
    "hub/client.py commit": "takes what huggingface_hub's create_commit takes",
    "hub/client.py propose": "takes what huggingface_hub's create_commit takes",
    "hub/commits.py commit": "takes what huggingface_hub's create_commit takes",
    "hub/proposals.py propose": "takes what huggingface_hub's create_commit takes",
    "hub/proposals.py update": "takes what huggingface_hub's create_commit takes",
}


def test_no_function_has_more_than_six_parameters() -> None:
    long = {
        f"{path.relative_to(BOT).as_posix()} {node.name}"
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if len(arguments(node)) > 6 and not is_command(node)
    }
    assert long == set(LONG)
