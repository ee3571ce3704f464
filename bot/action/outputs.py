"""The channels from a step to GitHub: the files of outputs and summaries, and the commands in its log.

Everything that goes there may hold a stranger's text. A value's end is marked by a word that nobody can guess, and
what would be read as a command is escaped, or printed while commands are switched off.
"""

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bot.pages import templates
from bot.pages.summary import LARGEST
from bot.printable import printable
from bot.records.artifacts import Failure, Json

MOST_ERRORS = 10  # annotations of one kind that GitHub shows of a step


def set_outputs(file: Path, values: Mapping[str, str | Path | Json]) -> None:
    """Set outputs of the step. A text is written as it is, anything else as JSON on one line."""
    with file.open("a", encoding="utf-8", newline="\n") as out:
        for name, value in values.items():
            text = str(value) if isinstance(value, str | Path) else json.dumps(value)
            end = secrets.token_hex(16)
            out.write(f"{name}<<{end}\n{text}\n{end}\n")


def add_summary(file: Path, text: str) -> None:
    """Add Markdown to the step's summary, or one line in its place where GitHub would refuse the whole for its size."""
    there = file.stat().st_size if file.exists() else 0
    if there + len(text.encode()) > LARGEST:
        text = "The summary is larger than GitHub shows. It is in the file that the output `summary` names.\n"
    with file.open("a", encoding="utf-8") as out:
        out.write(text)


def failed(message: str, hint: str) -> str:
    """Return the Markdown for a step that ended with one error."""
    return templates.environment().get_template("action-failed.md.j2").render(message=message, hint=hint)


def matrix(entries: Sequence[Mapping[str, str]]) -> str:
    """Return the Markdown for a matrix."""
    return templates.environment().get_template("action-matrix.md.j2").render(entries=entries)


def say(line: str) -> None:
    """Print a line to the log at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def error(message: str, hint: str, *, title: str = "phi-bot") -> None:
    """Annotate the run with an error: its one line, and what to do about it on the next."""
    say(f"::error title={_property(title)}::{_lines(message, hint)}")


def warning(message: str, hint: str) -> None:
    """Annotate the run with a warning."""
    say(f"::warning title=phi-bot::{_lines(message, hint)}")


def failures(found: Sequence[Failure]) -> None:
    """Annotate the run with each failure; where GitHub would leave some out, the last annotation counts them."""
    shown = found if len(found) <= MOST_ERRORS else found[: MOST_ERRORS - 1]
    for one in shown:
        error(one.message, one.hint, title=printable(f"{one.variant} of {one.release}, {one.step}"))
    if len(found) > len(shown):
        error(f"{len(found) - len(shown)} more failed", "The job's summary and the output report list them all.")


@contextmanager
def as_text() -> Iterator[None]:
    """Have nothing that the block prints read as a command."""
    word = secrets.token_hex(16)
    say(f"::stop-commands::{word}")
    try:
        yield
    finally:
        say(f"::{word}::")


@contextmanager
def folded(title: str) -> Iterator[None]:
    """Fold what the block prints into a group of the log, as text."""
    say(f"::group::{_data(printable(title))}")
    try:
        with as_text():
            yield
    finally:
        say("::endgroup::")


def file_of(environ: Mapping[str, str], name: str) -> Path:
    """Return one of the files that the runner reads after a step."""
    return Path(environ.get(name) or os.devnull)


def _lines(*texts: str) -> str:
    return _data("\n".join(printable(text) for text in texts))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
