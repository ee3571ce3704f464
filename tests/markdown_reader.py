"""Reads Markdown back as the Hub and GitHub do, and makes text that tries to break out of it."""

import re
from functools import lru_cache
from itertools import pairwise

from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

_ATTACKS = (
    "a | b",
    "a \\| b",
    "``` \n# Heading\n```",
    "\n\n# Heading\n\n- item",
    "\n---\nlicense: other\n---\n",
    "<script>alert(1)</script>",
    "</code></details><!--",
    "[click](https://evil.example)",
    "![](https://evil.example/x.png)",
    "<https://evil.example>",
    "https://evil.example www.evil.example @somebody",
    "**bold** _it_ ~~gone~~ `code` ``co`de``",
    "1. one",
    "- one",
    "> quoted",
    "    indented",
    "===",
    "|:--|",
    "&lt;b&gt; &#124;",
    "[x]: https://evil.example",
    "\\",
    "`",
    "'; rm -rf / #",
    '"""\nimport os\n"""',
    "$(touch /tmp/x)",
    "a\u2028b\u0085c\u202ed\u0000e",
)

hostile_text = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="|`\\*_[]()<>#-+=~!&\n \t:.1a\"'${}", max_size=40),
    st.lists(st.sampled_from(_ATTACKS) | st.text(max_size=5), min_size=1, max_size=3).map("".join),
)


_READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@lru_cache(maxsize=16)  # a test asks for blocks, tables, links, … of one text
def parse(text: str) -> tuple[Token, ...]:
    """Return the tokens of Markdown with tables and HTML."""
    return tuple(_READER.parse(text))


def blocks(text: str) -> list[tuple[str, str, int]]:
    """Return what Markdown is made of, without what is said in it: type, tag and depth of each block."""
    return [(t.type, t.tag, t.level) for t in parse(text)]


def inlines(text: str) -> list[Token]:
    """Return all inline tokens."""
    return [child for t in parse(text) for child in t.children or ()]


def plain(text: str) -> str:
    """Return what a reader sees of one paragraph of Markdown."""
    shown = []
    for token in inlines(text):
        if token.type in ("text", "text_special", "code_inline"):
            shown.append(token.content)
        elif token.type == "softbreak":
            shown.append("\n")
    return "".join(shown).replace("\u2060", "")


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each table, row by row, the head first."""
    found: list[list[list[str]]] = []
    for token, following in pairwise(parse(text)):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append(following.content)
    return found


def fences(text: str, language: str) -> list[str]:
    """Return the content of each fenced block of a language."""
    return [t.content for t in parse(text) if t.type == "fence" and t.info == language]


def headings(text: str) -> list[str]:
    """Return the text of each heading."""
    tokens = parse(text)
    return [re.sub("\u2060", "", tokens[i + 1].content) for i, t in enumerate(tokens) if t.type == "heading_open"]
