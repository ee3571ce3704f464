"""Nothing of a format's name stands outside its folder, its card, its documentation and its tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import format_folders
from bot.reconvert.files import Tree
from tests.page_reader import ROOT

NAMES = re.compile("|".join(format_folders.names()), re.IGNORECASE)

#: Where a name may stand all the same, and why. Whoever takes the reason away takes the line away.
ALLOWED = {
    "action.yml": "says to people what the Action makes, with examples of variants",
    "bot/building/importance_matrix.py": "to do: matrices are measured by one format, which is named",
    "bot/config/phi-bot.schema.json": "made of the help texts",
    "bot/config/places.py": "a help text with an example of a repo's name",
    "bot/config/tables.py": "help texts with examples of variants",
    "bot/formats/recipes.py": "to do: which rows may gain by an importance matrix, and what that is measured on",
    "bot/localhub/metadata.py": "the real Hub's own knowledge of files, which the embedded one mirrors",
    "bot/localhub/store.py": "the real Hub's own knowledge of files, which the embedded one mirrors",
    "bot/source/adapters.py": "which files of a stranger's repo are weights, whatever is built here",
    "templates/estimates.md.j2": "a page of the documentation: what was measured, in sentences",
}


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


def said(path: Path) -> list[str]:
    """Return what stands in a file that names a format."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [word for word in strings_and_identifiers(ast.parse(text)) if NAMES.search(word)]
    return [line for line in text.splitlines() if NAMES.search(line) and not line.lstrip().startswith("#")]


def shared_files() -> dict[str, Path]:
    own = [f"bot/formats/{name}/" for name in format_folders.names()]
    cards = {f"templates/{name}.md.j2" for name in format_folders.names()}
    locks = {"bot/action/requirements.txt", *(f"bot/toolchains/{name}.txt" for name in ("plots", "reference"))}
    texts = {"bot/texts/evaluation.txt", "bot/texts/training.txt"}
    files = {n: p for n, p in Tree(root=ROOT).files.items() if n not in cards | locks | texts}
    files |= {str(p.relative_to(ROOT)): p for p in [ROOT / "action.yml", *(ROOT / ".github").rglob("*.yml")]}
    return {name: path for name, path in files.items() if not name.startswith(tuple(own))}


@pytest.mark.parametrize("name", sorted(shared_files().keys() - ALLOWED.keys()))
def test_a_shared_file_names_no_format(name: str) -> None:
    assert said(shared_files()[name]) == []


@pytest.mark.parametrize("name", ALLOWED)
def test_an_exception_is_still_needed(name: str) -> None:
    assert said(shared_files()[name])
