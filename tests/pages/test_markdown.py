import ast
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import printable
from bot.pages import markdown
from tests.markdown_reader import blocks, fences, hostile_text, inlines, plain, tables


def test_text_is_shown_as_it_is() -> None:
    assert (
        plain(f"Made by {markdown.escape('*Star* & <b>Co</b> | [x](y) #1')}.")
        == "Made by *Star* & <b>Co</b> | [x](y) #1."
    )


@given(hostile_text)
def test_text_is_only_text_wherever_it_stands(text: str) -> None:
    shown = printable.one_line(text)
    if shown:
        assert blocks(str(markdown.escape(text))) == blocks("word")
    assert plain(f"before {markdown.escape(text)} after") == f"before {shown} after"
    assert {t.type for t in inlines(f"before {markdown.escape(text)} after")} <= {"text", "text_special"}


@given(hostile_text, hostile_text)
def test_a_table_row_has_the_cells_that_it_was_given(first: str, second: str) -> None:
    cells = [markdown.escape(first), markdown.code(second), markdown.unbroken(first)]
    table = "|a|b|c|\n|-|-|-|\n| {} | {} | {} |\n".format(*cells)
    assert [len(row) for row in tables(table)[0]] == [3, 3]
    assert blocks(table) == blocks("|a|b|c|\n|-|-|-|\n| x | y | z |\n")


@given(hostile_text)
def test_code_shows_exactly_the_text(text: str) -> None:
    assert plain(f"run {markdown.code(text)} now") == f"run {printable.one_line(text)} now"
    assert not {t.type for t in inlines(f"run {markdown.code(text)} now")} & {
        "link_open",
        "em_open",
        "strong_open",
        "image",
    }
    assert all(t.content in ("<code>", "</code>") for t in inlines(str(markdown.code(text))) if t.type == "html_inline")


@given(hostile_text)
def test_a_fence_ends_where_it_should(text: str) -> None:
    page = f"{markdown.fence(text, 'text')}\n\n# After\n"
    assert blocks(page) == blocks("```text\nx\n```\n\n# After\n")
    kept = [line.replace("\t", "") for line in fences(page, "text")[0].splitlines()]
    assert all(line.isprintable() or "\u200d" in line or "\u200c" in line or not line.isascii() for line in kept)


def test_a_fence_keeps_lines_and_blank_space() -> None:
    assert fences(str(markdown.fence("<|user|>\n\n  hi ```\r\n", "text")), "text") == ["<|user|>\n\n  hi ```\n\n"]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//host/x",
        "https://",
        "https://user:secret@host/",
        "https://a b",
        "LICENSE",
    ],
)
def test_only_web_addresses_become_links(address: str) -> None:
    assert [t.type for t in inlines(str(markdown.link("text", address)))] == ["text"]


@given(hostile_text, hostile_text)
def test_a_link_leads_where_it_was_told_to(label: str, path: str) -> None:
    shown = f"see {markdown.link(label, 'https://huggingface.co/' + path)} there"
    targets = [t.attrs["href"] for t in inlines(shown) if t.type == "link_open"]
    assert blocks(shown) == blocks("word")
    assert len(targets) <= 1
    assert all(str(target).startswith("https://huggingface.co/") for target in targets)


def test_bare_addresses_mentions_and_references_are_broken_up() -> None:
    escaped = str(markdown.escape("https://evil.example www.evil.example @somebody owner/repo#12"))
    assert "://" not in escaped
    assert "www." not in escaped
    assert "@somebody" not in escaped
    assert "#12" not in escaped


@given(hostile_text)
def test_shell_and_python_read_back_one_word(text: str) -> None:
    assert shlex.split(str(markdown.shell(text))) == [printable.one_line(text)]
    assert ast.literal_eval(str(markdown.python(text))) == printable.one_line(text)


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    line = printable.one_line(text)
    assert len(line.splitlines()) <= 1
    assert printable.one_line(line) == line


def test_controls_of_direction_are_taken_out() -> None:
    assert printable.one_line("a\u202eb\u2066c\ufeffd\x1b[31m") == "abcd [31m"
