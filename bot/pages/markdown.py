"""Text from strangers, made safe for its place in Markdown. ``Markup`` marks what is safe as it is."""

import json
import re
import shlex
from urllib.parse import quote, urlsplit

from markupsafe import Markup

from bot.printable import is_hidden, one_line

_SPECIAL = str.maketrans({c: f"\\{c}" for c in r"\`*_[]<>|~&$"})
_LINE_START = re.compile(r"^(?:([#+\-=])|(\d{1,9})([.)])(?=\s|$))")
_WORD_JOINER = "\u2060"


def escape(text: object) -> Markup:
    """Return text for a paragraph, a heading or a table cell: nothing in it is markup, a link or a mention.

    Neither does it refer to an issue: ``#12`` would leave its trace there.
    """
    if isinstance(text, Markup):
        return text
    line = one_line(text).translate(_SPECIAL)
    line = _LINE_START.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", line)
    line = re.sub(r"@|#(?=\d)", f"\\g<0>{_WORD_JOINER}", line)
    line = line.replace("://", "&#58;//")  # or a bare address becomes a link
    line = re.sub(r"(?i)\bwww\.", lambda m: f"{m[0][:3]}&#46;", line)
    return Markup(line)  # noqa: S704 - escaped above


def unbroken(text: object) -> Markup:
    """Return text that stays on one line of a narrow table."""
    return escape(text).replace(" ", Markup("&nbsp;"))


def code(text: object) -> Markup:
    """Return text as inline code, in a table cell too."""
    line = one_line(text)
    if not line:
        return Markup("")
    if "|" in line or "`" in line:  # a code span in a table shows the escape of a pipe elsewhere: entities fit both
        entities = "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in line)
        return Markup(f"<code>{entities}</code>")  # noqa: S704 - only entities
    return Markup(f"`{line}`")  # noqa: S704 - holds no backtick


def fence(text: object, language: str = "") -> Markup:
    """Return text as a fenced block, with a fence longer than any run of backticks in it."""
    lines = str(text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    body = "\n".join(_visible(line) for line in lines)
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    marks = "`" * max(3, longest + 1)
    return Markup(f"{marks}{language}\n{body}\n{marks}")  # noqa: S704 - the fence cannot be closed from inside


def link(text: object, address: str) -> Markup:
    """Return a link, or only its text when the address is not a plain http(s) one."""
    if not is_web_address(address):
        return escape(text)
    target = quote(address, safe=":/?#@!$&'*+,;=%~")
    if str(text) == address:
        return Markup(f"<{target}>")  # noqa: S704 - quoted
    return Markup(f"[{escape(text)}](<{target}>)")  # noqa: S704 - escaped and quoted


def picture(address: str, text: object) -> Markup:
    """Return a picture that shows ``text`` in its place, or that text alone when the address is not a web one."""
    shown = link(one_line(text) or "picture", address)
    return Markup(f"!{shown}") if shown.startswith("[") else shown  # noqa: S704 - a link is escaped


def is_web_address(text: object) -> bool:
    """Say whether text is an http or https address with a host and without credentials, white space or hidden text."""
    if (
        not isinstance(text, str)
        or len(text) > 2000
        or any(map(is_hidden, text))
        or re.search(r"[\s\x00-\x20\x7f\\<>\"]", text)
    ):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def shell(text: object) -> Markup:
    """Return text as one word of a POSIX shell, on one line."""
    return Markup(shlex.quote(one_line(text)))  # noqa: S704 - for inside a fence


def python(text: object) -> Markup:
    """Return text as a Python string literal, on one line."""
    return Markup(json.dumps(one_line(text), ensure_ascii=False))  # noqa: S704 - for inside a fence


def _visible(line: str) -> str:
    return "".join(c for c in line if c == "\t" or not is_hidden(c))
