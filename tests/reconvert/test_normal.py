"""What of a file counts: all that it does, and nothing of how it is written."""

import pytest

from bot.reconvert.normal import Use, normal

BASE = '''
"""A module."""
from bot import texts
from bot.records.artifacts import Release as Source
BOUND = 3
def f(x: int) -> int:
    """Return it."""
    if x > BOUND:
        raise ValueError(f"{x} is above {BOUND}")
    return texts.evaluation(Source, x)
'''


def python(text: str) -> tuple[str, tuple[Use, ...]]:
    found = normal(".py", text.encode())
    return found.digest, found.used


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', "# A comment"),
        ('    """Return it."""\n', ""),
        ('f"{x} is above {BOUND}"', '"too large"'),
        ('f"{x} is above {BOUND}"', 'f"{BOUND:>3} is below " + f"{x!r}."'),
        ("from bot import texts\n", "from bot.words import texts\n"),
        ("texts", "words"),
        ("Source", "Release"),
    ],
    ids=["docstring", "docstring of a function", "message", "quoted", "place", "name", "alias"],
)
def test_how_it_is_written_does_not_count(old: str, new: str) -> None:
    assert old in BASE
    assert python(BASE.replace(old, new))[0] == python(BASE)[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BOUND = 3", "BOUND = 4"),
        ("x > BOUND", "x >= BOUND"),
        ("ValueError", "KeyError"),
        ('f"{x} is above {BOUND}"', 'f"{print(x)} is above"'),
        ('f"{x} is above {BOUND}"', '"too large", x'),
        ("texts.evaluation", "texts.training"),
        ("(Source, x)", "(x, Source)"),
        ("def f(x: int)", "def f(texts: int)"),
        ("from bot import texts\n", "from bot import texts\nimport bot.texts, os\n"),
        ("from bot import texts\n", "from . import texts\n"),
    ],
    ids=["constant", "rule", "class", "call", "argument", "function", "order", "shadow", "import", "relative"],
)
def test_a_change_of_behaviour_counts(old: str, new: str) -> None:
    assert old in BASE
    assert python(BASE.replace(old, new))[0] != python(BASE)[0]


def test_modules_of_the_bot_are_listed_by_first_use() -> None:
    assert python(BASE)[1] == (Use(module="bot", name="texts"), Use(module="bot.records.artifacts", name="Release"))
    swapped = BASE.replace("texts", "@").replace("Source", "texts").replace("@", "Source")
    digest, used = python(swapped)
    assert (digest, used) != python(BASE)


def test_a_name_that_means_two_things_is_kept_as_it_is() -> None:
    text = "from bot import a\nfrom bot.b import a\n\na()\n"
    found = normal(".py", text.encode())
    assert found.used == ()
    assert found.others == (Use(module="bot", name="a", bound="a"), Use(module="bot.b", name="a", bound="a"))


def test_a_module_that_only_imports_is_empty() -> None:
    assert normal(".py", b'"""Words."""\nfrom bot.records.artifacts import Release\n').empty
    assert not normal(".py", b"__all__ = ['Release']\n").empty
    assert not normal(".py", b"import os\n").empty


def test_of_data_the_value_counts() -> None:
    assert normal(".toml", b"# Why\na = 1\n") == normal(".toml", b"a=1\n") != normal(".toml", b"a = 2\n")
    assert normal(".json", b'{"a": 1, "b": 2}') == normal(".json", b'{"b":2,"a":1}') != normal(".json", b'{"a": 1}')
    assert normal(".json", b"{") != normal(".json", b"{ ")
    assert normal(".css", b"a {}") != normal(".css", b"a { }")


def test_an_unreadable_file_is_compared_by_its_bytes() -> None:
    assert normal(".py", b"def f(:") != normal(".py", b"def f(:  ")
    assert normal(".py", b"(" * 5000).others == ()
    assert normal(".toml", b"a = [") != normal(".toml", b"a = [ ")
    assert normal(".txt", b"# /// toolchain\n") != normal(".txt", b"# /// toolchain\n\n")
