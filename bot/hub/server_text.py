"""Texts of a server, made safe for an error message."""

import re


def safe_line(text: str) -> str:
    """Return a server's words on one short line, without tokens and control characters."""
    text = re.sub(r"\b(hf|hub|api_org)_[A-Za-z0-9_-]{6,}", r"\1_…", text)
    text = re.sub(r"(?i)(bearer )\S+", r"\1…", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r" +", " ", text).strip()[:200]
