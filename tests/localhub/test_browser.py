"""The pages in Chromium, at the width of a desktop and of a phone, light and dark."""

from collections.abc import Callable

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.localhub import RunningHub
from tests.browsing import Browser, appear, waiting

pytestmark = pytest.mark.browser

CARD = """---
license: mit
pipeline_tag: text-generation
---
# Phi, small

Text with a_very_long_word_without_any_place_to_break_it_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.

| File | Precision | Size | Mean KL | Top-1 agreement | Peak memory | Built by | Verified on |
|---|---|--:|--:|--:|--:|---|---|
| Phi-4-mini-instruct-Q4_K_M.gguf | int4 | 2.5 GB | 0.031 | 0.942 | 3.1 GB | llama-cpp-python 0.3.36 | Linux x86-64 |

```sh
llama-cli -m Phi-4-mini-instruct-Q4_K_M.gguf -p "Why is the sky blue?" --temp 0 --seed 1 --ctx-size 4096 --n-predict 64
```

<script>document.title = "owned"</script>
<img src="x" onerror="document.title = 'owned'"><svg onload="document.title = 'owned'"></svg>
<a id="trap" href="javascript:document.title = 'owned'">press here</a>
"""


@pytest.fixture
def repo(api: HfApi) -> str:
    """A repo with a hostile card, a file in a long path, and a pull request."""
    api.create_repo("org/Phi-4-mini-instruct-with-quite-a-long-name-GGUF")
    api.create_repo("org/other")
    name = "org/Phi-4-mini-instruct-with-quite-a-long-name-GGUF"
    deep = "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4/phi-4-mini-instruct-cpu-int4-rtn-block-32.onnx.data"
    adds = [CommitOperationAdd("README.md", CARD.encode()), CommitOperationAdd(deep, b"\0" * 1000)]
    api.create_commit(name, adds, commit_message="Publish " + "a long message " * 8)
    change = [CommitOperationAdd("README.md", CARD.replace("0.942", "0.943").encode())]
    api.create_commit(name, change, commit_message="Measure again", create_pr=True)
    return name


def paths(api: HfApi, repo: str) -> list[str]:
    folder = "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4"
    return [
        "/", "/datasets", f"/{repo}", f"/{repo}/tree/main", f"/{repo}/tree/main/{folder}",
        f"/{repo}/blob/main/README.md",
        f"/{repo}/commits/main", f"/{repo}/commit/{api.model_info(repo).sha}", f"/{repo}/discussions",
        f"/{repo}/discussions/1", "/none/here",
    ]  # fmt: skip


def go(browser: Browser, step: Callable[[], object]) -> None:
    """Do something that leads to another page, and wait for it."""
    before = browser.current_url
    step()
    waiting(browser).until(
        lambda b: b.current_url != before and b.execute_script("return document.readyState") == "complete"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_and_run_nothing(
    browser: Browser, hub: RunningHub, api: HfApi, repo: str, width: int, scheme: str
) -> None:
    appear(browser, width, scheme)
    for path in paths(api, repo):
        browser.get(hub.url + path)
        wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide == [width, width], f"{path} is wider than the window"
        assert browser.title.endswith("· phi-bot Hub"), path
        colors = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        paper, ink = browser.execute_script(colors)
        assert (brightness(paper) > brightness(ink)) == (scheme == "light")
    problems = [e["message"] for e in browser.get_log("browser") if "/none/here" not in e["message"]]
    assert problems == []


def brightness(color: str) -> int:
    return sum(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(","))


@pytest.mark.parametrize("width", [1280, 390])
def test_a_person_finds_a_repo_and_reads_its_card(browser: Browser, hub: RunningHub, repo: str, width: int) -> None:
    appear(browser, width, "light")
    browser.get(hub.url)
    search = browser.find_element("css selector", "input[type=search]")
    search.send_keys("phi mini")
    go(browser, search.submit)
    names = [e.text for e in browser.find_elements("css selector", ".rows .name")]
    assert names == [repo]
    go(browser, browser.find_element("link text", repo).click)
    assert browser.current_url == f"{hub.url}/{repo}"
    card = browser.find_element("css selector", ".card")
    assert card.find_element("css selector", "h1").text == "Phi, small"
    table = card.find_element("css selector", "table")
    scroll = "return [arguments[0].scrollWidth > arguments[0].clientWidth, arguments[0].clientWidth <= innerWidth]"
    assert browser.execute_script(scroll, table) == [True, True], "a wide table scrolls in its own box"
    trap = [a for a in card.find_elements("css selector", "a") if a.text == "press here"]
    assert trap[0].get_attribute("href") is None
    trap[0].click()
    assert browser.title == f"{repo} · phi-bot Hub"
    go(browser, browser.find_element("link text", "Files").click)
    assert "README.md" in browser.find_element("css selector", ".list").text
    go(browser, browser.find_element("partial link text", "Pull requests").click)
    go(browser, browser.find_element("link text", "Measure again").click)
    assert browser.find_elements("css selector", ".diff .plus")


def test_the_keyboard_is_enough(browser: Browser, hub: RunningHub, repo: str) -> None:
    appear(browser, 1280, "light")
    browser.get(f"{hub.url}/{repo}/tree/main")
    for element in browser.find_elements("css selector", "a[href]:not(details a), button, input, summary"):
        assert browser.execute_script("arguments[0].focus(); return document.activeElement === arguments[0]", element)
