"""File names of a model: data from strangers until they have passed ``check_name``."""

import re
import unicodedata

from bot.errors import UnsafeFileNameError
from bot.records.digests import is_content

_SEGMENT_BYTES = 255  # what file systems take
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # devices on Windows
NOTICES = frozenset({"LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt"})


def is_wanted(path: str) -> bool:
    """Say whether a file of a source repo is fetched: what decides the build, and the licence texts."""
    return is_content(path) or path in NOTICES


def check_name(path: str, *, where: str) -> str:
    """Return ``path``, relative and with forward slashes, if it can stand for a file on every system.

    Raises UnsafeFileNameError, naming ``where`` it came from, for anything that could leave its folder, mean another
    file, or mislead a person who reads it.
    """
    reason = _objection(path)
    if reason is not None:
        raise UnsafeFileNameError(
            f"{where} holds a file named {path[:80]!a}, which {reason}",
            hint="Nothing of it was written. Ask its owner to rename the file, or report the repo.",
        )
    return path


def safe_name(name: str) -> str:
    """Return a name as the Hub takes it: letters, digits and single ``-``, ``_``, ``.``; at most 96 of them."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    name = re.sub(r"-{2,}", "-", re.sub(r"\.{2,}", ".", name))
    return name[:96].strip(".-").removesuffix(".git") or "model"


def _objection(path: str) -> str | None:
    if "\\" in path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "is not a relative path"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in path):
        return "has control characters"
    for segment in path.split("/"):
        if segment == "..":
            return "leaves its folder"
        if segment in ("", ".") or segment.endswith((".", " ")) or ":" in segment or _RESERVED.fullmatch(segment):
            return "is not a file name on every system"
        if len(segment.encode()) > _SEGMENT_BYTES:
            return "is too long for a file system"
    return None
