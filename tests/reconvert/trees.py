"""Checkouts to compare: copies of this one, in which tests change what they are about."""

import re
import shutil
from pathlib import Path

import bot
from tests.page_reader import ROOT

Q4_K_M = 'options = { ftype = "Q4_K_M" }'


def checkout(folder: Path) -> Path:
    """Copy the code and the templates into a new folder, and return it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(bot.__file__).parent, folder / "bot", ignore=ignored)
    shutil.copytree(ROOT / "templates", folder / "templates")
    return folder


def change(folder: Path, path: str, old: str, new: str) -> None:
    """Replace a text that is in a file once."""
    file = folder / path
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is in {path} {text.count(old)} times"
    file.write_text(text.replace(old, new), encoding="utf-8")


def extend(folder: Path, path: str, more: str) -> None:
    """Add a text to the end of a file."""
    with (folder / path).open("a", encoding="utf-8") as file:
        file.write(more)


def move(folder: Path, path: str, to: str) -> None:
    """Move a module, and have all that imports it import it from there, under the name that it had."""
    (folder / to).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).rename(folder / to)
    old, new = (p.removesuffix(".py").replace("/", ".") for p in (path, to))
    (package, _, name), (there, _, called) = old.rpartition("."), new.rpartition(".")
    for file in (folder / "bot").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        text = text.replace(f"from {old} import", f"from {new} import")
        line = re.compile(rf"^( *)from {package} import (.*\b)?{name}\b(.*)$", re.MULTILINE)
        file.write_text(line.sub(lambda m: _apart(m, package, name, f"from {there} import {called} as {name}"), text))


def _apart(found: re.Match[str], package: str, name: str, new: str) -> str:
    names = [n for n in ((found[2] or "") + name + found[3]).split(", ") if n != name]
    rest = [f"{found[1]}from {package} import {', '.join(names)}"] if names else []
    return "\n".join([*rest, f"{found[1]}{new}"])
