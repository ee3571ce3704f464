"""Texts of issues and comments: behind a marker that nobody sees, and within GitHub's limit."""

import re

_LONGEST = 65_536  # characters, as GitHub counts them
_LONGEST_TITLE = 256
_MARKER = re.compile(r"\A<!-- phi-bot: ([a-z]+ [a-z0-9][a-z0-9._-]{0,99}) -->(?:\n|\Z)")


def marked(marker: str, text: str) -> str:
    """Return a text behind the marker (a kind and a key: "release 0123…") by which it is found again.

    A text that is too long is cut at the end of a line, and says so at its top: its end may be inside a block.
    """
    head = f"<!-- phi-bot: {marker} -->\n"
    if marker_of(head) != marker:
        raise ValueError(f"{marker!r} is not a marker")
    return head + _cut(text, _LONGEST - len(head))


def marker_of(body: str) -> str | None:
    """Return the marker that a text begins with."""
    found = _MARKER.match(normalize_line_ends(body))
    return found[1] if found else None


def normalize_line_ends(body: str) -> str:
    """Return a text with the line ends that it was sent with: a browser changes them."""
    return body.replace("\r\n", "\n")


def cut_title(title: str) -> str:
    """Return a title that GitHub takes."""
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"


def _cut(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    lines = text.split("\n")
    note = "**Too long for GitHub: the first {} of {} lines.**\n\n"
    room -= len(note.format(len(lines), len(lines)))
    kept = 0
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept += 1
    return note.format(kept, len(lines)) + "\n".join(lines[:kept])
