"""Reads the log of a step as the runner does: which lines are commands, and what they say.

A line is a command where its first characters are two colons, or where it holds ``##[`` anywhere; both forms count
until a line stops commands, and again from the one that resumes them.
"""

import re
from dataclasses import dataclass

_NEW = re.compile(r"\s*::(?P<name>[^\s:]+)(?: (?P<properties>.*?))?::(?P<data>.*)", re.DOTALL)
_OLD = re.compile(r"##\[(?P<name>[^\s\]]+)(?: (?P<properties>[^\]]*))?\](?P<data>.*)", re.DOTALL)
_KNOWN = {"error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands", "add-matcher"} | {
    "set-output",
    "set-env",
    "save-state",
    "add-path",
    "echo",
    "remove-matcher",
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of a log, unescaped."""

    name: str
    properties: dict[str, str]
    data: str


def lines_of(text: str) -> list[str]:
    """Split a text at the ends of lines that the runner knows, which are fewer than Python's."""
    return re.split(r"\r\n|\n|\r", text.removesuffix("\n"))


def commands(text: str) -> list[Command]:
    """Return the commands of a log that the runner carries out."""
    found: list[Command] = []
    stopped_by: str | None = None
    for line in lines_of(text):
        command = _read(line, _KNOWN | ({stopped_by} if stopped_by else set()))
        if command is None:
            continue
        if stopped_by is not None:
            if command.name == stopped_by:
                stopped_by = None
        elif command.name == "stop-commands":
            stopped_by = command.data
        else:
            found.append(command)
    assert stopped_by is None, "commands are still stopped at the end of the step"
    return found


def _read(line: str, known: set[str]) -> Command | None:
    for pattern, separator, escapes in (
        (_NEW, ",", {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}),
        (_OLD, ";", {"%3B": ";", "%0D": "\r", "%0A": "\n", "%5D": "]", "%25": "%"}),
    ):
        match = pattern.match(line) if pattern is _NEW else pattern.search(line)
        if match is None or match["name"] not in known:
            continue
        pairs = (pair.split("=", 1) for pair in (match["properties"] or "").split(separator) if "=" in pair)
        properties = {name.strip(): _unescape(value, escapes) for name, value in pairs}
        return Command(name=match["name"], properties=properties, data=_unescape(match["data"], escapes))
    return None


def _unescape(text: str, escapes: dict[str, str]) -> str:
    for escape, character in escapes.items():
        text = text.replace(escape, character)
    return text
