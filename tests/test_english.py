"""Messages, help texts, docstrings, comments, templates and documentation say "is not a model", not "is no model"."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = ("bot/**/*.py", "templates/**/*.j2", "docs/*.md", "tests/**/*.py", "benchmarks/**/*.py", "*.md", "action.yml")

THERE_IS_NO = re.compile(r"\bthere( \w+)? (is|are|was|were|be) no\b", re.IGNORECASE)  # which is right
IS_NO = re.compile(r"\b(?:is|are|was|were|be) no (?!longer\b|more\b|less\b)\w+", re.IGNORECASE)


def odd(text: str) -> list[str]:
    """Return the places of a text that say "is no …", whatever line they begin on."""
    lines = " ".join(line.lstrip("#: ") for line in map(str.strip, text.splitlines()))
    plain = THERE_IS_NO.sub("", lines)
    return [plain[max(0, m.start() - 40) : m.end()] for m in IS_NO.finditer(plain)]


@pytest.mark.parametrize("place", PLACES)
def test_is_not_a(place: str) -> None:
    files = [f for f in ROOT.glob(place) if f != Path(__file__)]
    assert files
    found = {str(f.relative_to(ROOT)): said for f in files if (said := odd(f.read_text(encoding="utf-8")))}
    assert not found


@pytest.mark.parametrize("text", ["it is no model", "what these\n# are no part of", "Was No License"])
def test_odd_english_is_found(text: str) -> None:
    assert odd(text)


@pytest.mark.parametrize("text", ["it is not a model", "There is no\nmodel", "it is no longer there", "it has no name"])
def test_plain_english_is_not(text: str) -> None:
    assert not odd(text)
