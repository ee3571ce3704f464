"""The site in Chromium, off a disk: searching, filters, widths, colours, and that nothing leaves the page."""

import itertools
import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bot.pages.status.pages import render
from bot.pages.status.write import write
from tests.browsing import Browser, appear, waiting
from tests.pages.status import examples

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("status") / "site"
    write(render(examples.status()), out)
    return out


@pytest.fixture
def index(browser: Browser, site: Path) -> Browser:
    """The browser, at the index."""
    appear(browser, 1280, "light")
    browser.get((site / "index.html").as_uri())
    return browser


def shown(browser: Browser) -> list[str]:
    """Return the names of the models that are to be seen, in their order."""
    links = browser.find_elements("css selector", "#rows th a")
    return [link.text for link in links if link.is_displayed()]


def choose(browser: Browser, name: str, value: str) -> None:
    browser.find_element("css selector", f"#{name} option[value='{value}']").click()


def test_searching_narrows_and_says_so(index: Browser) -> None:
    assert len(shown(index)) == len(examples.NAMES)
    index.find_element("id", "words").send_keys("128K phi-3")
    assert shown(index) == ["Phi-3-medium-128k-instruct", "Phi-3-mini-128k-instruct"]
    assert index.find_element("id", "found").text == "2 of 9 models"
    index.find_element("id", "words").send_keys(" nothing-like-it")
    assert shown(index) == []
    index.find_element("id", "clear").click()
    assert len(shown(index)) == len(examples.NAMES)
    assert index.switch_to.active_element.get_attribute("id") == "words"


def test_format_and_state_are_of_the_same_variant(index: Browser) -> None:
    choose(index, "state", "stuck")
    assert shown(index) == ["Phi-4-mini-instruct"]
    choose(index, "format", "gguf")
    assert shown(index) == []
    choose(index, "format", "onnx")
    assert shown(index) == ["Phi-4-mini-instruct"]
    choose(index, "state", "")
    choose(index, "format", "")
    assert len(shown(index)) == len(examples.NAMES)


def test_models_can_be_ordered_by_the_age_of_their_files(index: Browser) -> None:
    by_name = shown(index)
    choose(index, "order", "age")
    assert shown(index)[-1] == "Phi-4-multimodal-instruct", "which has none"
    choose(index, "order", "name")
    assert shown(index) == by_name == sorted(by_name, key=str.casefold)


def test_a_person_goes_from_a_failure_to_its_reason_and_back(index: Browser) -> None:
    index.find_element("css selector", ".urgent a").click()
    assert index.title == "Phi-4-mini-instruct · someone"
    assert index.current_url.endswith("models/microsoft--Phi-4-mini-instruct.html#onnx")
    assert "mean KL 0.31 nats" in index.find_element("css selector", "section[aria-labelledby=onnx]").text
    index.find_element("link text", "All models").click()
    assert index.current_url.endswith("index.html#microsoft--Phi-4-mini-instruct")


PATHS = ["index.html", *(f"models/microsoft--{name}.html" for name in examples.NAMES)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 360])
def test_every_page_fits_and_can_be_read(browser: Browser, site: Path, width: int, scheme: str) -> None:
    appear(browser, width, scheme)
    for path in PATHS:
        browser.get((site / path).as_uri())
        wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide == [width, width], f"{path} is wider than the window"
        assert browser.execute_script(FAINT) == [], path
        assert browser.execute_script(CUT) == [], path
    assert [e["message"] for e in browser.get_log("browser")] == []


# The texts whose contrast with what is behind them is under 4.5 (WCAG 2.2, AA).
FAINT = """
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = numbers(color).slice(0, 3).map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  for (let at = e; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if ((numbers(color)[3] ?? 1) === 1) return color;
  }
};
const found = [];
for (const e of document.body.querySelectorAll("*")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || e.closest("script, title") || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(e instanceof SVGElement ? style.fill : style.color), light(behind(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) found.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)}`);
}
return [...new Set(found)];
"""

# The elements whose words reach out of the window.
CUT = """
return [...document.querySelectorAll("main *, header *, svg text")].filter((e) => {
  const box = e.getBoundingClientRect();
  return box.width && e.checkVisibility() && !e.closest("thead") && (box.right > innerWidth + 1 || box.left < -1);
}).map((e) => `${e.tagName} ${e.textContent.trim().slice(0, 30)}`);
"""


def test_everything_to_use_has_a_name_and_takes_the_keyboard(index: Browser) -> None:
    for element in index.find_elements("css selector", "a[href], button, input, select, summary"):
        if element.is_displayed():
            index.execute_script("arguments[0].focus()", element)
            assert index.switch_to.active_element == element
            assert element.accessible_name, element.get_attribute("outerHTML")
    (chart,) = index.find_elements("css selector", "svg.chart")
    assert chart.aria_role in ("img", "image")
    assert chart.accessible_name == "Mean KL by precision and format"
    (table,) = index.find_elements("css selector", "table.models")
    assert (table.aria_role, table.accessible_name) == ("table", "Models")


def test_headings_are_in_order_and_pages_have_their_landmarks(browser: Browser, site: Path) -> None:
    for path in PATHS:
        browser.get((site / path).as_uri())
        levels = [int(h.tag_name[1]) for h in browser.find_elements("css selector", "h1, h2, h3")]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert browser.execute_script("return document.documentElement.lang") == "en"
        assert len(browser.find_elements("css selector", "main")) == 1


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The address of the site on a web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_page_asks_for_nothing_but_its_style(browser: Browser, served: str) -> None:
    for path in PATHS:
        browser.get(f"{served}/{path}")
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
        assert set(loaded) <= {f"{served}/style.css", "data:,"}, path
        assert f"{served}/style.css" in loaded


def test_a_script_that_got_into_a_page_would_not_run(browser: Browser, site: Path) -> None:
    page = (site / "index.html").read_text()
    attack = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
    (site / "attacked.html").write_text(page.replace("<main", f"{attack}<main"))
    browser.get((site / "attacked.html").as_uri())
    assert browser.title == "Phi models of someone"
    said = " ".join(e["message"] for e in browser.get_log("browser"))
    assert "Content Security Policy" in said


def test_without_script_everything_is_there_but_the_search(browser: Browser, site: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((site / "index.html").as_uri())
        waiting(browser).until(lambda b: b.find_elements("css selector", "footer"))
        assert len(browser.find_elements("css selector", "#rows tr")) == len(examples.NAMES)
        assert browser.find_elements("css selector", "#find[hidden]")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_data_is_beside_the_page(site: Path) -> None:
    assert json.loads((site / "status.json").read_text())["namespace"] == "someone"
