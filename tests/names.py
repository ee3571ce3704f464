"""What shared files say, for tests that hold of a name that it stands in its own place alone."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from bot import format_folders
from bot.reconvert.files import Tree
from tests.page_reader import ROOT


def strings_and_identifiers(tree: ast.Module) -> Iterator[str]:
    """Yield all that code says but for comments and documentation."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value
        for field in ("id", "attr", "name", "arg", "asname", "module"):
            if isinstance(word := getattr(node, field, None), str):
                yield word


def said(path: Path, names: re.Pattern[str]) -> list[str]:
    """Return what stands in a file that has one of some names in it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [word for word in strings_and_identifiers(ast.parse(text)) if names.search(word)]
    return [line for line in text.splitlines() if names.search(line) and not line.lstrip().startswith("#")]


@cache
def shared_files() -> Mapping[str, Path]:
    """Return the files of the code that are of no format, by their paths."""
    own = [f"bot/formats/{name}/" for name in format_folders.names()]
    cards = {f"templates/{name}.md.j2" for name in format_folders.names()}
    locks = {"bot/action/requirements.txt", *(f"bot/toolchains/{name}.txt" for name in ("plots", "reference"))}
    texts = {"bot/texts/evaluation.txt", "bot/texts/training.txt"}
    files = {n: p for n, p in Tree(root=ROOT).files.items() if n not in cards | locks | texts}
    files |= {str(p.relative_to(ROOT)): p for p in [ROOT / "action.yml", *(ROOT / ".github").rglob("*.yml")]}
    return {name: path for name, path in files.items() if not name.startswith(tuple(own))}


@cache
def helper_files() -> Mapping[str, Path]:
    """Return the benchmarks, and the helpers of tests that are of no format, by their paths."""
    tests = (p for p in (ROOT / "tests").rglob("*.py") if not p.name.startswith("test_"))
    files = {str(p.relative_to(ROOT)): p for p in [*tests, *(ROOT / "benchmarks").rglob("*.py")]}
    return {name: path for name, path in files.items() if not name.startswith("tests/formats/")}
