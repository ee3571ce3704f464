"""Errors: each kind has its own exit code, and what it says cannot steer a terminal."""

import inspect
from collections import Counter

import click
from hypothesis import given
from hypothesis import strategies as st

from bot import errors
from bot.errors import BuildError, PhiBotError

KINDS = [
    c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, PhiBotError) and hasattr(c, "exit_code")
]


def test_every_kind_has_an_exit_code_of_its_own_that_means_nothing_else() -> None:
    codes = Counter(c.exit_code for c in KINDS)
    assert codes.most_common(1)[0][1] == 1
    # 1 is a bug, 2 wrong usage, 126 to 128 and above belong to the shell (130 is Ctrl-C there too).
    assert all(2 < code < 126 or code == 130 for code in codes)
    assert click.UsageError.exit_code == 2


@given(st.text("ab\n\r\t\x1b\x07\x9b\u2028\u202e😀", max_size=20))
def test_a_message_is_one_line_without_control_characters(words: str) -> None:
    error = BuildError(words, hint=words)
    for text in (error.message, error.hint, str(error)):
        assert text.isprintable()


def test_readable_text_stays_as_it_is() -> None:
    words = "gguf/q4_k_m: größer als „4 GB“ 😀 (see …)"
    assert BuildError(words, hint=words).message == words
