"""Checkouts to compare: copies of this one, in which tests change what they are about."""

import shutil
from pathlib import Path

import bot
from tests.pages import ROOT

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
