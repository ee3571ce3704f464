"""Which names of repos, files and refs are taken: checked before any of them comes near a disk."""

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import quote, unquote

from bot.localhub.refused import bad_request, unprocessable

REPO_TYPES = ("model", "dataset")

_WORD = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_RESERVED = frozenset({"api", "datasets", "login", "models", "oauth", "spaces", "static"})
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}", re.ASCII)  # git shows 7 digits where they are enough
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, separators of lines
_MAX_SEGMENT = 255  # bytes: what the usual file systems take
_MAX_PATH = 1024
MAX_REF = 240  # bytes of its file name


def check_namespace(name: str) -> str:
    """Return the name of a user or an organisation, or refuse it."""
    if not _WORD.fullmatch(name) or "--" in name or ".." in name or name.lower() in _RESERVED:
        raise bad_request(f"{name!r} cannot be a namespace: use letters, digits, '-', '_' and '.'")
    return name


def check_repo_name(name: str) -> str:
    """Return the name of a repo without its namespace, or refuse it."""
    if not _WORD.fullmatch(name) or "--" in name or ".." in name or name.lower().endswith(".git"):
        raise bad_request(f"{name!r} cannot be a repo name: use letters, digits, '-', '_' and '.', at most 96")
    return name


def find_spelling(folder: Path, name: str) -> str | None:
    """Return how a folder's entry is spelled that has this name in whatever case, or None: the very name goes first."""
    try:
        there = os.listdir(folder)  # noqa: PTH208 - thousands of names, and no need of their paths
    except (FileNotFoundError, NotADirectoryError):
        return None
    if name in there:
        return name
    return min((n for n in there if n.lower() == name.lower()), default=None)


def check_path(path: str) -> str:
    """Return the path of a file in a repo, or refuse one that is not plain: absolute, dotted, unprintable, too long."""
    if fault := _fault_of(path):
        raise unprocessable(fault)
    return path


def _fault_of(path: str) -> str | None:
    segments = path.split("/")
    if not path or any(s in ("", ".", "..") for s in segments) or "\\" in path:
        return f"{path!r} is not the path of a file: use names joined by single slashes"
    if any(s.lower() == ".git" for s in segments):
        return f"{path!r} is refused: no file lives in '.git'"
    if any(unicodedata.category(c) in _UNPRINTABLE for c in path):
        return f"{path!r} is refused: it holds control characters"
    if len(path.encode()) > _MAX_PATH or any(len(s.encode()) > _MAX_SEGMENT for s in segments):
        return f"a path of {len(path.encode())} bytes is too long"
    return None


def check_ref_name(name: str) -> str:
    """Return the name of a branch or a tag, or refuse it (git's rules, and nothing that reads as a commit)."""
    wrong = (
        _fault_of(name)
        or any(c in " ~^:?*[" for c in name)
        or "@{" in name
        or name == "@"
        or any(s.startswith((".", "-")) or s.endswith((".", ".lock")) for s in name.split("/"))
        or name.startswith("refs/")
        or _COMMIT.fullmatch(name)
        or len(to_file_name(name)) > MAX_REF
    )
    if wrong:
        raise bad_request(f"{name!r} cannot be the name of a branch or a tag")
    return name


def title_of(text: str) -> str:
    """Return the title of a commit or a discussion on one line, or refuse it."""
    title = " ".join(text.split())
    if not title or any(unicodedata.category(c) in _UNPRINTABLE for c in title):
        raise bad_request("a title is empty, or holds control characters")
    return title


def is_commit(text: str) -> bool:
    """Say whether text is a whole commit id: 40 hex digits."""
    return _COMMIT.fullmatch(text) is not None


def is_short_commit(text: str) -> bool:
    """Say whether text is the beginning of a commit id, long enough to be taken for one."""
    return _SHORT_COMMIT.fullmatch(text) is not None


def is_sha256(text: object) -> bool:
    """Say whether a value is a sha256 in lower-case hex."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def to_file_name(ref: str) -> str:
    """Return the one plain file name that stands for a branch or a tag: no slash, no dot."""
    return quote(ref, safe="").replace(".", "%2E")


def from_file_name(name: str) -> str:
    """Undo ``to_file_name``."""
    return unquote(name)
