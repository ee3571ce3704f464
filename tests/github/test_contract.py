"""What the bot asks of GitHub, and what our server answers in its place, held against GitHub's own description."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from bot.errors import GithubError
from bot.github import (
    ReleaseIssue,
    Repository,
    connect,
    find_pull,
    open_repository,
    permission_of,
    put_comment,
    read_pull,
    reading,
    remove_label,
)
from tests import github_answers as answers
from tests.github import description
from tests.github_server import ROUTES, VIEWER, Fault, GitHub, serve

# Where each description's API begins; a newer Enterprise Server takes the second place.
PREFIXES = ("", "/api/v3")

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Have the descriptions, and what validates by them."""
    description.install()


@pytest.fixture(scope="module", params=PREFIXES, ids=["github.com", "enterprise"])
def described(request: pytest.FixtureRequest, installed: None) -> dict[str, Any]:
    """Return what a description has of the paths that our server knows, below its prefix."""
    name = dict(zip(PREFIXES, description.names(), strict=True))[request.param]
    return description.subset(name, set(ROUTES), prefix=request.param) | {"prefix": request.param}


@pytest.fixture(scope="module")
def proxied(described: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    """Return our server with the validating proxy as its public address."""
    with serve(prefix=described["prefix"]) as server:
        shown = {key: value for key, value in described.items() if key != "prefix"}
        with description.proxy(shown, server.url, tmp_path_factory.mktemp("proxy")) as address:
            server.public = address
            yield server


@pytest.fixture
def server(proxied: GitHub) -> GitHub:
    """Return the server without what an earlier test left there."""
    for left in (proxied.issues, proxied.pulls, proxied.faults, proxied.seen, proxied.asked):
        left.clear()
    for held in (proxied.comments, proxied.permissions):
        held.clear()
    return proxied


def journey(server: GitHub, repository: Repository) -> None:
    """Do all that the bot ever does on GitHub, each in every way that makes another request."""
    release = ReleaseIssue(key="0123456789abcdef" * 4, title="Phi-4", text="One of two.", closed=False)
    issues = connect("o/r", server.environ)
    for closed in (False, True, False):
        issues.put([ReleaseIssue(key=release.key, title="Phi-4", text=f"closed: {closed}", closed=closed)])
    server.add({"title": "Phi-4", "body": server.issues[0]["body"], "labels": ["phi-bot"]})
    issues.put([release])  # another bot has made the same
    assert [issue["state"] for issue in server.issues] == ["open", "closed"]

    for text in ("One.", "Two.", None, "Three."):
        put_comment(repository, 5, "report", text)
    for number in range(4):
        server.add_comment(5, f"{number}", login="someone")
    put_comment(repository, 5, "candidates", "On the second page.")
    put_comment(repository, 5, "candidates", "And found there.")

    fork = answers.pull(server.api, 5, head="someone/r", labels=("convert:o/m", "other"))
    server.pulls += [fork, answers.pull(server.api, 6)]
    assert read_pull(repository, 5) == find_pull(
        repository, head_repository="someone/r", head_branch="topic", head_sha="a" * 40
    )
    remove_label(repository, 5, "convert:o/m")
    remove_label(repository, 5, "convert:o/m")
    fork |= {"state": "closed", "merged_at": answers.MOMENT}
    assert read_pull(repository, 5).merged
    with pytest.raises(GithubError, match="404: Not Found"):
        read_pull(repository, 7)

    assert reading.told(repository).startswith("o/r; ")
    assert reading.comments(repository, reading.first_issue(repository)) == 0

    server.permissions |= {"maintainer": ("write", "maintain")}
    assert permission_of(repository, "maintainer") == "maintain"
    assert permission_of(repository, "an-app[bot]") == "none"


def test_every_request_and_every_answer_is_as_described(server: GitHub, described: dict[str, Any]) -> None:
    journey(server, open_repository("o/r", server.environ))
    assert {(method, template) for method, template, _, _ in server.asked} == set(ROUTES), "and none is left out"
    for method, template, queries, bodies in server.asked:
        asked = described["paths"][server.prefix + template][method.lower()]
        parameters = [description.resolve(described, parameter) for parameter in asked.get("parameters", ())]
        assert queries <= {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
        content = asked.get("requestBody", {"content": {}})["content"].get("application/json", {"schema": {}})
        assert bodies <= set(description.resolve(described, content["schema"]).get("properties", {}))


WRONG_REQUESTS = [
    ("POST", "/issues", {"title": "x", "labels": "phi-bot"}),
    ("POST", "/issues", {"body": "x"}),
    ("PATCH", "/issues/1", {"state": "merged"}),
    ("POST", "/issues/5/comments", {"text": "x"}),
    ("PATCH", "/issues/comments/501", {"body": ["x"]}),
    ("POST", "/issues/five/comments", {"body": "x"}),
    ("POST", "/issues/5/remarks", {"body": "x"}),
    ("DELETE", "/issues/comments/five", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRONG_REQUESTS)
def test_the_proxy_finds_a_wrong_request(server: GitHub, method: str, path: str, body: object) -> None:
    status, said = send(server, method, f"/repos/o/r{path}", body)
    assert (status, "stoplight.io/prism/errors" in said) in ((422, True), (404, True)), said
    assert server.seen == [], "it does not come to the server"


@pytest.mark.parametrize(("method", "template"), ROUTES)
def test_the_proxy_finds_a_wrong_answer_to_every_request(server: GitHub, method: str, template: str) -> None:
    """A validator that cannot read a schema passes everything: each one has to show that it is read."""
    status = {"POST": 201, "DELETE": 204}.get(method, 200)
    numbers = {"issue_number": 5, "comment_id": 501, "pull_number": 5, "owner": "o", "repo": "r"}
    path = template.format_map({**numbers, "name": "x", "username": "x"})
    body = {"POST": {"title": "x", "body": "x"}, "PATCH": {"body": "x"}}.get(method)
    if template.endswith("/labels/{name}"):
        status = 200
    server.faults = [Fault(method=method, path=".*", status=status, answer=17)]
    if status == 204:  # nothing can be wrong in it: another status is
        server.faults[0].status = 202
    code, said = send(server, method, path, body)
    assert (code, "#VIOLATIONS" in said) == (500, True), said


@pytest.mark.parametrize("damage", [{"id": "1"}, {"html_url": None}, {"user": {"login": "someone"}}, {"created_at": 1}])
def test_the_proxy_finds_a_wrong_value(server: GitHub, damage: dict[str, Any]) -> None:
    server.add_comment(5, "hello").update(damage)
    code, said = send(server, "GET", "/repos/o/r/issues/5/comments")
    assert (code, "#VIOLATIONS" in said) == (500, True), said


def send(server: GitHub, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Ask the proxy, as the bot would, and return status and text."""
    answer = requests.request(method, server.api + path, json=body, headers={"User-Agent": "x"}, timeout=60)
    return answer.status_code, answer.text


def test_no_other_request_is_written_down_in_the_bot() -> None:
    """A new request needs a new route of our server, and so a place in the description."""
    room = Path(open_repository.__code__.co_filename).parent
    known = {template.removeprefix("/repos/{owner}/{repo}") for _, template in ROUTES} - {""}
    written = {
        re.sub(r"{.*?}(?=/|$)", "{}", address)
        for module in room.glob("*.py")
        for address in re.findall(r'"(/(?:issues|pulls|collaborators)[^"]*)"', module.read_text(encoding="utf-8"))
    }
    assert written == {re.sub(r"{\w+}", "{}", below) for below in known}


def test_the_query_for_the_account_is_one_of_the_schema() -> None:
    data = {"viewer": {"login": "phi-bot"}}
    assert description.run_query(VIEWER, data) == {"data": data}
    assert "errors" in description.run_query("query { viewer { name_of_account } }", data)
