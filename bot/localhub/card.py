"""A stranger's Markdown as HTML that runs nothing, loads nothing from elsewhere and leads nowhere unseen."""

import posixpath
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from markupsafe import Markup

from bot.localhub.objects import Tree
from bot.printable import shown

if TYPE_CHECKING:
    from markdown_it.rules_core import StateCore

MAX_RENDERED = 200_000  # characters; a longer text is shown as it is
IMAGE_SUFFIXES = (".gif", ".jpeg", ".jpg", ".png", ".webp")
_ID_PREFIX = "card-"
_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "center", "code", "dd", "del", "details", "div", "dl", "dt", "em",
    "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "s",
    "samp", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr",
    "tt", "u", "ul", "var",
}  # fmt: skip
_ATTRIBUTES = {
    "*": {"align", "dir", "lang", "title"},
    "a": {"href"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
    **{f"h{n}": {"id"} for n in range(1, 7)},
}
_DROPPED_WITH_CONTENT = {"iframe", "math", "noscript", "object", "script", "style", "svg", "template", "title"}


@dataclass(frozen=True, kw_only=True)
class PageAddress:
    """The page of a text, which its relative links and images are resolved against. ``page`` is the repo's address."""

    page: str
    commit: str
    folder: str
    tree: Tree


@dataclass(frozen=True, kw_only=True)
class CardHtml:
    """Safe HTML, and how many images were left out of it."""

    html: Markup
    left_out: int


def render(text: str, place: PageAddress) -> CardHtml:
    """Return Markdown as safe HTML. Images come from the same repo or not at all.

    Without the two libraries of the extra ``hub``, or when it is very long, the text is shown as it is.
    """
    try:
        import nh3
        from markdown_it import MarkdownIt
    except ImportError:
        return _plain(text, "Install phi-bot[hub] to see this text rendered.")
    if len(text) > MAX_RENDERED:
        return _plain(text, "This text is too long to be rendered.")
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.core.ruler.push("attributes", _set_attributes)
    left_out = 0

    def keep(tag: str, attribute: str, value: str) -> str | None:
        nonlocal left_out
        if tag == "img" and attribute == "src":
            source = _image(value, place)
            left_out += source is None
            return source
        return _link(value, place) if attribute == "href" else value

    cleaned = nh3.clean(
        parser.render(shown(text)),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        clean_content_tags=_DROPPED_WITH_CONTENT,
        attribute_filter=keep,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        id_prefix=_ID_PREFIX,
    )
    return CardHtml(html=Markup(cleaned), left_out=left_out)  # noqa: S704 - nh3 has cleaned it


def _plain(text: str, why: str) -> CardHtml:
    return CardHtml(html=Markup("<p><em>{}</em></p><pre>{}</pre>").format(why, shown(text)), left_out=0)


def _image(address: str, place: PageAddress) -> str | None:
    path = _inside(address, place)
    if path is None or path not in place.tree or not path.lower().endswith(IMAGE_SUFFIXES):
        return None
    return f"{place.page}/resolve/{place.commit}/{quote(path)}"


def _link(address: str, place: PageAddress) -> str | None:
    if address.startswith("#"):
        return f"#{_ID_PREFIX}{quote(unquote(address[1:]))}"
    parts = _split(address)
    if parts is None or parts.scheme or parts.netloc:
        return address if parts and parts.scheme in ("http", "https", "mailto") else None
    path = _inside(address, place)
    if path is None:
        return None
    if path in place.tree:
        return f"{place.page}/blob/{place.commit}/{quote(path)}"
    if any(p.startswith(f"{path}/") for p in place.tree):
        return f"{place.page}/tree/{place.commit}/{quote(path)}"
    return None


def _inside(address: str, place: PageAddress) -> str | None:
    """Return the path in the repo that a relative address means, or None when it means something else."""
    parts = _split(address)
    if parts is None or parts.scheme or parts.netloc or "\\" in address or address.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(place.folder, unquote(parts.path)))
    return None if path.startswith("..") or path in (".", "/") else path


def _split(address: str) -> SplitResult | None:
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _set_attributes(state: "StateCore") -> None:
    """Give headings an id, as their links expect, and say how cells are aligned without a style."""
    seen: dict[str, int] = {}
    for token, content in zip(state.tokens, state.tokens[1:], strict=False):
        if token.type == "heading_open":
            slug = _slug(content.content)
            count = seen[slug] = seen.get(slug, -1) + 1
            token.attrSet("id", f"{slug}-{count}" if count else slug)
        elif token.type in ("th_open", "td_open") and token.attrs:
            token.attrs = {"align": str(token.attrs["style"]).removeprefix("text-align:")}


def _slug(heading: str) -> str:
    kept = (c for c in heading.strip().lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return re.sub(r"\s", "-", "".join(kept))
