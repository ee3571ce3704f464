"""The project's Markdown as tests see it: headings, tables, links and fenced blocks of each page."""

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: the words after its fence, its text, and where it is."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def name(self) -> str:
        """Where it is, as an editor takes it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A line of a console block that begins with ``$``, continued lines joined, and the output under it."""

    block: Block
    text: str
    output: str


def name_of(page: Path) -> str:
    """Return a page's path in the project."""
    return page.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    """Parse a page as GitHub does."""
    return MarkdownIt("gfm-like", {"linkify": False}).parse(page.read_text(encoding="utf-8"))


def blocks(*languages: str) -> list[Block]:
    """Return all fenced blocks of all pages in some languages."""
    return [
        Block(page=page, line=token.map[0] + 1, info=token.info.strip(), text=token.content)
        for page in PAGES
        for token in tokens(page)
        if token.type == "fence" and token.map and token.info.split(" ")[0] in languages
    ]


def commands(block: Block) -> Iterator[Command]:
    """Return the commands of a console block."""
    text = block.text.replace("\\\n", " ")
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Command(block=block, text=command.strip(), output=output)


def calls(command: str) -> Iterator[list[str]]:
    """Split a shell command at pipes and the like; return each part's words, without redirections and assignments."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    redirected = False
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;()"):
            if words:
                yield words
            words = []
        elif set(word) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        elif words or not re.match(r"[A-Z_]+=", word):
            words.append(word)


def headings(page: Path) -> list[str]:
    """Return the headings of a page as GitHub's anchors."""
    inline = [t.content for before, t in _pairs(tokens(page)) if before.type == "heading_open"]
    return [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in inline]


def sections(page: Path) -> dict[str, str]:
    """Return the text below each heading, by the heading."""
    parts = re.split(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading.strip(): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def links(page: Path) -> list[str]:
    """Return where the links and images of a page lead."""
    inner = (child for t in tokens(page) for child in t.children or ())
    found = (child.attrGet("href") or child.attrGet("src") for child in inner)
    return [str(target) for target in found if target]


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables of a text as rows of cells, their heads left out."""
    found: list[list[list[str]]] = []
    for before, token in _pairs(MarkdownIt("gfm-like", {"linkify": False}).parse(text)):
        if token.type == "tbody_open":
            found.append([])
        elif token.type == "tr_open" and found and before.type != "thead_open":
            found[-1].append([])
        elif token.type == "inline" and before.type == "td_open":
            found[-1][-1].append(token.content)
    return found


def _pairs(parsed: list[Token]) -> Iterator[tuple[Token, Token]]:
    return itertools.pairwise(parsed)
