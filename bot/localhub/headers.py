"""Headers of requests and answers: what a stranger wrote into them, and what may go out."""

import base64
import re
from uuid import uuid4

_REQUEST_ID = re.compile(r"[!-~]{1,200}", re.ASCII)


def request_id(*given: str | None) -> str:
    """Return what both sides call a request: the first usable name of those that the caller gives, or a new one."""
    return next((g for g in given if g and _REQUEST_ID.fullmatch(g)), None) or str(uuid4())


def password(credentials: str) -> str:
    """Return the password of basic credentials; nothing of what is none."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def printable(value: str) -> str:
    """Return a value that begins no new line."""
    return "".join(c if " " <= c <= "~" else "?" for c in value)
