"""What a person sees, as HTML."""

import json
import re
from functools import partial

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.localhub import RunningHub
from bot.localhub.changes import apply, put
from bot.localhub.objects import regular_file
from bot.localhub.repo import MAIN
from tests.localhub.conftest import Ask

CARD = b"""---
license: mit
base_model: microsoft/Phi-4
base_model_relation: quantized
tags: ["<b>tag</b>"]
---
# Title

| a | b |
|---|---|
| 1 | [file](t.txt) |

<script>alert(1)</script>
![elsewhere](https://example.com/x.png)
"""
HTML = {"Accept": "text/html"}


@pytest.fixture
def repo(api: HfApi) -> str:
    """A repo with a card, a pull request and names that want to be markup."""
    api.create_repo("org/m")
    adds = [
        CommitOperationAdd("README.md", CARD),
        CommitOperationAdd("t.txt", b"<i>one</i>\n"),
        CommitOperationAdd("w.gguf", b"GGUF" + bytes(5000)),
        CommitOperationAdd("<img src=x>&.txt", b"x"),
        CommitOperationAdd("sub/deep/a.json", b"{}"),
    ]
    api.create_commit("org/m", adds, commit_message="<u>Add</u>", commit_description="<u>Why</u>")
    change = [CommitOperationAdd("t.txt", b"<i>two</i>\n")]
    api.create_commit("org/m", change, commit_message="<s>Propose</s>", commit_description="*Why*", create_pr=True)
    return "org/m"


def page(ask: Ask, path: str, status: int = 200) -> str:
    answer = ask("GET", path, headers=HTML)
    assert answer.status == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; img-src 'self';")
    found = answer.body.decode()
    for tag in ("<script", "<b>tag", "<u>", "<s>", "<i>", "<img src=x", "style=", "onerror"):
        assert tag not in found, f"{tag} in {path}"
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', found):
        assert address.startswith(("/", "#", "https://", "?"))
        assert not address.startswith("//")
    for address in re.findall(r'(?:src|<link[^>]*href)="([^"]*)"', found):
        assert address.startswith("/"), "nothing is loaded from elsewhere"
    return found


def test_every_page_of_a_repo(ask: Ask, api: HfApi, repo: str) -> None:
    head = api.model_info(repo).sha
    for path in (
        "/", "/?search=m", "/?search=<script>", "/datasets", f"/{repo}", f"/{repo}/", f"/{repo}/tree/main",
        f"/{repo}/tree/main/sub", f"/{repo}/tree/{head}/sub/deep", f"/{repo}/blob/main/t.txt",
        f"/{repo}/blob/main/w.gguf", f"/{repo}/blob/refs%2Fpr%2F1/t.txt", f"/{repo}/blob/main/%3Cimg%20src=x%3E&.txt",
        f"/{repo}/commits/main", f"/{repo}/commit/{head}", f"/{repo}/discussions", f"/{repo}/discussions/1",
    ):  # fmt: skip
        page(ask, path.replace("<", "%3C").replace(">", "%3E"))


def test_links_of_the_pages_lead_somewhere(ask: Ask, repo: str) -> None:
    seen: set[str] = set()
    todo = ["/"]
    while todo:
        path = todo.pop()
        answer = ask("GET", path, headers=HTML)
        assert answer.status in (200, 302) or path == "/login", path
        if "text/html" in answer.headers.get("content-type", ""):
            found = re.findall(r'(?:href|src|action)="(/[^"#]*)', answer.body.decode())
            todo += [p for p in {f.replace("&amp;", "&") for f in found} - seen if p not in todo]
        seen.add(path)
    assert any("/resolve/" in p for p in seen)
    assert any("/commit/" in p for p in seen)


def test_a_card_and_its_facts(ask: Ask, api: HfApi, repo: str) -> None:
    found = page(ask, f"/{repo}")
    assert "<h1" in found
    assert '<a href="/org/m/blob/' in found
    assert "<td>1</td>" in found
    assert "Not shown: 1 image" in found
    assert "&lt;b&gt;tag&lt;/b&gt;" in found
    assert "base_model:quantized:microsoft/Phi-4" in found
    assert 'href="/microsoft/Phi-4"' not in found, "the base model is not on this Hub"
    api.create_repo("microsoft/Phi-4")
    assert 'href="/microsoft/Phi-4"' in page(ask, f"/{repo}")


def test_a_repo_without_a_card(ask: Ask, api: HfApi) -> None:
    api.create_repo("org/empty")
    assert "This repo has no card" in page(ask, "/org/empty")


def test_search_and_owners(ask: Ask, api: HfApi, repo: str) -> None:
    api.create_repo("other/Phi-4-mini")
    assert "other/" not in page(ask, "/?search=m&author=org")
    assert "Phi-4-mini" in page(ask, "/?search=PHI+mini")
    assert "Nothing here has that name" in page(ask, "/?search=none")
    assert ask("GET", "/org", headers=HTML).headers["location"] == "/?author=org"


def test_long_lists_have_pages(hub: RunningHub, ask: Ask, api: HfApi) -> None:
    api.create_repo("org/m")
    repo = hub.hub.repo("model", "org", "m")
    assert repo is not None
    for i in range(51):
        file = regular_file("n", f"{i}".encode())
        change = partial(apply, [put(file)])
        repo.blobs.add(f"{i}".encode())
        with repo.changing():
            repo.land(MAIN, change, parent=None, author="me", title=f"Number {i}", description="")
    first, second = page(ask, "/org/m/commits/main"), page(ask, "/org/m/commits/main?p=1")
    assert 'rel="next" href="/org/m/commits/main?p=1"' in first
    assert 'rel="prev" href="/org/m/commits/main?p=0"' in second
    assert "initial commit" in second
    assert "initial commit" not in first


def test_a_pull_request_shows_its_changes(ask: Ask, repo: str) -> None:
    found = page(ask, f"/{repo}/discussions/1")
    assert "<em>Why</em>" in found
    assert '<span class="minus">-&lt;i&gt;one&lt;/i&gt;</span>' in found
    assert '<span class="plus">+&lt;i&gt;two&lt;/i&gt;</span>' in found


def test_private_repos_are_hidden(hub: RunningHub, ask: Ask, api: HfApi) -> None:
    api.create_repo("org/secret", private=True)
    assert "secret" not in page(ask, "/")
    assert "sign in" in page(ask, "/org/secret", 401)
    assert "org/secret" not in page(ask, "/org/secret", 401).replace("/org/secret", "")
    assert "secret" in ask("GET", "/", headers=HTML, token=hub.token).body.decode()


def test_a_gated_repo_shows_its_card_and_not_its_files(ask: Ask, api: HfApi, repo: str) -> None:
    api.update_repo_settings(repo, gated="auto")
    assert "gated" in page(ask, f"/{repo}")
    page(ask, f"/{repo}/tree/main")
    assert "restricted" in page(ask, f"/{repo}/blob/main/t.txt", 401)
    page(ask, f"/{repo}/commit/main", 401)


def test_errors_are_pages_for_people_and_json_for_clients(ask: Ask, repo: str) -> None:
    assert "Not found" in page(ask, "/none/here", 401)
    page(ask, f"/{repo}/tree/none", 404)
    page(ask, f"/{repo}/tree/main/none", 404)
    page(ask, f"/{repo}/blob/main/none", 404)
    page(ask, f"/{repo}/discussions/9", 404)
    page(ask, "/static/none", 404)
    answer = ask("GET", f"/{repo}/discussions/9")
    assert json.loads(answer.body) == {"error": "org/m has no discussion 9"}


def test_files_of_a_repo_are_never_pages(ask: Ask, api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"<script>alert(1)</script>", path_in_repo="x.html", repo_id=repo)
    api.upload_file(path_or_fileobj=b"<svg onload=alert(1)>", path_in_repo="x.svg", repo_id=repo)
    for name in ("x.html", "x.svg"):
        answer = ask("GET", f"/{repo}/resolve/main/{name}", headers=HTML)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].endswith("sandbox")
