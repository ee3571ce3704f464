"""The files of the site: what they say, that they hold together, and that no stranger's text is more than text."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import PurePosixPath
from posixpath import normpath

from hypothesis import HealthCheck, given, settings

from bot.pages.status.pages import render
from bot.pages.status.records import Entry, ModelStatus, Status
from tests.markdown_reader import hostile_text
from tests.pages.status import examples


class Page(HTMLParser):
    """A page's tags with their attributes, and its words."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def values(self, name: str) -> Iterator[str]:
        return (attributes[name] for _, attributes in self.tags if name in attributes)


SITE = render(examples.status())
PAGES = {path: Page(content) for path, content in SITE.items() if path.endswith(".html")}


def test_the_site_is_an_index_a_page_for_each_model_and_the_data() -> None:
    models = {f"models/microsoft--{name}.html" for name in examples.NAMES}
    assert set(SITE) == {"index.html", "style.css", "status.json"} | models
    assert Status.from_json(json.loads(SITE["status.json"])) == examples.status()


def test_every_link_inside_the_site_leads_somewhere() -> None:
    for path, page in PAGES.items():
        for link in page.values("href"):
            if re.match(r"https://|data:", link):
                continue
            target, _, anchor = link.partition("#")
            file = normpath(PurePosixPath(path).parent / target) if target else path
            assert file in SITE, f"{path}: {link}"
            if anchor:
                assert anchor in set(PAGES[file].values("id")), f"{path}: {link}"


def test_no_id_is_given_twice() -> None:
    for path, page in PAGES.items():
        ids = list(page.values("id"))
        assert len(ids) == len(set(ids)), path


def test_the_index_says_how_things_stand() -> None:
    words = " ".join(PAGES["index.html"].words.split())
    assert "65 ✓ published" in words
    assert "needs a person" in words
    assert "it asks for code from its repo to be run" in words
    assert "1 private or gated one is not shown" in words
    assert words.index("! needs a person Phi-4-mini-instruct") < words.index("✗ failed phi-4"), "the worst comes first"


def test_a_models_page_has_figures_with_their_errors_on_both_sides() -> None:
    words = " ".join(PAGES["models/microsoft--Phi-3.5-mini-instruct.html"].words.split())
    assert "2.4 GB 0.0212 ± 0.0011 0.0193 ± 0.0010 95.2 % 9 days ago" in words
    assert "0.0653 ± 0.0033†" in words
    assert "† Here a runtime is known to differ: long factors at every position" in words
    assert "Built with llama-cpp-python 0.3.36, torch 2.13.0, transformers 5.23.0" in words


def test_a_models_page_shows_failures_and_the_time_of_the_next_attempt() -> None:
    words = " ".join(PAGES["models/microsoft--Phi-4-mini-instruct.html"].words.split())
    assert "mean KL 0.31 nats, at most 0.2 allowed" in words
    assert "Failed once at verify; tried again after 2026-12-01 15:30 UTC." in words
    assert "Failed 3 times at verify." in words


def test_a_paused_bot_says_so() -> None:
    page = Page(render(replace(examples.status(), paused="the disk is being replaced"))["index.html"])
    assert "Paused: the disk is being replaced" in page.words


def test_an_empty_namespace_has_a_page_too() -> None:
    site = render(replace(examples.status(), models=(), shelves=()))
    assert "No model is known yet" in Page(site["index.html"]).words


def test_the_site_loads_nothing_but_its_own_style_and_runs_its_own_script_alone() -> None:
    for path, page in PAGES.items():
        (policy,) = (a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
        assert policy.startswith("default-src 'none'; style-src 'self'")
        assert not list(page.values("src"))
        assert not list(page.values("style"))
        assert ("script-src 'sha256-" in policy) == (path == "index.html")
        assert sum(t == "script" for t, _ in page.tags) == (path == "index.html")


def hostile(text: str) -> Status:
    """Return the status of a namespace in which every word is a stranger's."""
    status = examples.status()
    entry = Entry(
        variant=f"gguf/{text}",
        state="stuck",
        repo_id=text,
        published=True,
        text=text,
        hint=text,
        step=text,
        attempts=2,
        next=text,
    )
    made = status.shelves[0].made[0]
    told = replace(
        made,
        variant=entry.variant,
        precision=text,
        target=text,
        folder=text,
        build_key=text,
        commit=text,
        created=text,
        toolchain=text,
        runtime=text,
        known=(text,),
        quality=tuple(replace(q, gated=False) for q in made.quality),
    )
    shelf = replace(status.shelves[0], repo_id=text, made=(told,))
    model = ModelStatus(repo_id=text, commit=text, entries=(entry,), problem=text)
    return replace(status, models=(model,), shelves=(shelf,), namespace=text, paused=text, run=text)


SAME = render(hostile("plain"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(hostile_text.filter(lambda text: text.strip() and text == text.strip()))
def test_no_text_changes_the_structure_of_a_page(text: str) -> None:
    site = render(hostile(text))
    assert len(site) == len(SAME)
    assert all(re.fullmatch(r"[a-z.]+|models/[\w.-]+\.html", path) for path in site)
    for path, same in zip(sorted(site), sorted(SAME), strict=True):
        if path.endswith(".html"):
            assert _shape(Page(site[path])) == _shape(Page(SAME[same]))


def _shape(page: Page) -> list[tuple[str, list[str]]]:
    """Return the tags and the names of their attributes; a link may be left out, but leads nowhere else."""
    for link in page.values("href"):
        assert re.match(r"https://huggingface\.co/|\.\./|#|data:,$|models/|status\.json$|style\.css$", link), link
    return [(tag, sorted(attributes)) for tag, attributes in page.tags if tag != "a"]
