"""The part of GitHub's API that the bot uses, on this machine, for the real PyGithub to talk to.

What it answers is held against GitHub's own description by the contract tests (tests/github/test_contract.py).
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from tests import github_answers as answers

VIEWER = "query { viewer { login } }"
_PAGE = 3  # items, so that a few of them make several pages
Answered = tuple[int, Any, dict[str, str]]


@dataclass(kw_only=True)
class Fault:
    """What happens to the next request that matches: an answer in GitHub's place, after it was done or not at all.

    ``answer`` is JSON or, as bytes, anything; without one it is an error with ``message``.
    """

    method: str
    path: str
    status: int
    message: str = "went wrong"
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False
    times: int = 1
    answer: Any = None

    @property
    def content(self) -> bytes:
        """What is sent."""
        if isinstance(self.answer, bytes):
            return self.answer
        return json.dumps({"message": self.message} if self.answer is None else self.answer).encode()


@dataclass(kw_only=True)
class GitHub:
    """A running server with one repository, ``o/r``, below ``prefix``. Tokens are those of ``login``.

    ``public`` is its address for others: a proxy's, where one is in front.
    """

    url: str
    prefix: str = ""
    public: str = ""
    login: str = "phi-bot"
    name: str = "o/r"
    labels: bool = True  # whether the token may set them
    issues: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  # by issue
    pulls: list[dict[str, Any]] = field(default_factory=list)
    permissions: dict[str, tuple[str, str]] = field(default_factory=dict)  # of a login: permission, role
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, authorization
    unknown: list[tuple[str, str]] = field(default_factory=list)  # requests that no route is for
    asked: list[tuple[str, str, set[str], set[str]]] = field(default_factory=list)  # method, template, names given
    lock: Lock = field(default_factory=Lock)

    @property
    def api(self) -> str:
        """The address that the API has for others."""
        return (self.public or self.url) + self.prefix

    @property
    def environ(self) -> dict[str, str]:
        """What GitHub Actions, or a person, puts into the environment."""
        return {"GITHUB_TOKEN": "a-token", "GITHUB_API_URL": self.api}

    def count(self, method: str) -> int:
        """Return how many requests of a method there were, besides the one that asks whose token it is."""
        return sum(m == method and not path.endswith("/graphql") for m, path, _ in self.seen)

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what is to happen to a request."""
        for fault in self.faults:
            if fault.times and fault.method == method and re.fullmatch(fault.path, path):
                fault.times -= 1
                return fault
        return None

    def account(self, login: str) -> dict[str, Any]:
        return answers.account(self.api, login, "Bot" if login.endswith("[bot]") else "User")

    def add(self, given: dict[str, Any], *, login: str | None = None) -> dict[str, Any]:
        """Make an issue."""
        issue = answers.issue(
            self.api,
            len(self.issues) + 1,
            title=given["title"],
            body=given.get("body"),
            user=self.account(login or self.login),
            labels=given.get("labels", []) if self.labels else [],
        )
        self.issues.append(issue)
        return issue

    def add_comment(self, issue: int, body: str, *, login: str | None = None) -> dict[str, Any]:
        """Make a comment."""
        there = self.comments.setdefault(issue, [])
        number = 100 * issue + max((c["id"] % 100 for c in there), default=0) + 1
        comment = answers.comment(self.api, issue, number, body=body, user=self.account(login or self.login))
        there.append(comment)
        return comment

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answered:
        """Do what a request asks."""
        below = path.removeprefix(self.prefix)
        if (method, path) == ("POST", re.sub("/v3$", "", self.prefix) + "/graphql"):
            assert body == {"query": VIEWER}
            return 200, {"data": {"viewer": {"login": self.login}}}, {}
        for (known, template), handle in ROUTES.items():
            found = re.fullmatch(re.sub(r"{\w+}", "([^/]+)", template), below)
            if found and method == known and path.startswith(self.prefix):
                given = [unquote(part) for part in found.groups()]
                self.asked.append((method, template, set(query), set(body or ())))
                return handle(self, given, query, body) if given[:2] == ["o", "r"] else _missing()
        self.unknown.append((method, path))
        return 500, {"message": f"no route for {method} {path}"}, {}

    def page(self, path: str, query: dict[str, list[str]], found: list[Any]) -> Answered:
        """Return a page of a listing. As GitHub's, the address of the next one names the repository by its number."""
        page = int(query.get("page", ["1"])[0])
        more = urlencode({name: values[0] for name, values in query.items()} | {"page": page + 1})
        link = f'<{self.api}/repositories/1/{path}?{more}>; rel="next"'
        return 200, found[(page - 1) * _PAGE : page * _PAGE], {"Link": link} if page * _PAGE < len(found) else {}


Handle = Callable[[GitHub, list[str], dict[str, list[str]], Any], Answered]


def _missing() -> Answered:
    return 404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}, {}


def _repository(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    return 200, answers.repository(server.api, server.name), {}


def _issues(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    assert query["state"] == ["all"]
    names = set(query["labels"][0].split(","))
    found = [i for i in reversed(server.issues) if names <= {label["name"] for label in i["labels"]}]
    return server.page("issues", query, found)


def _new_issue(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    return 201, server.add(body), {}


def _edit_issue(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    server.issues[int(given[2]) - 1] |= body
    return 200, server.issues[int(given[2]) - 1], {}


def _comments(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    return server.page(f"issues/{given[2]}/comments", query, server.comments.get(int(given[2]), []))


def _new_comment(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    if len(body["body"]) > 65_536:
        problem = {"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": "Body is too long"}
        return 422, {"message": "Validation Failed", "errors": [problem], "documentation_url": "https://x.test"}, {}
    return 201, server.add_comment(int(given[2]), body["body"]), {}


def _edit_comment(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    for comment in (c for there in server.comments.values() for c in there if c["id"] == int(given[2])):
        comment["body"] = body["body"]
        return 200, comment, {}
    return _missing()


def _delete_comment(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    for there in server.comments.values():
        for comment in there:
            if comment["id"] == int(given[2]):
                there.remove(comment)
                return 204, None, {}
    return _missing()


def _remove_label(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    for labeled in (p for p in server.pulls if p["number"] == int(given[2])):
        kept = [label for label in labeled["labels"] if label["name"] != given[3]]
        if len(kept) < len(labeled["labels"]):
            labeled["labels"] = kept
            return 200, kept, {}
    return _missing()


def _pulls(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    fitting = [
        p for p in server.pulls if [p["state"]] == query["state"] and [p["head"]["label"]] == query.get("head", [""])
    ]
    return server.page("pulls", query, fitting)


def _pull(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    found = [p for p in server.pulls if p["number"] == int(given[2])]
    return (200, answers.whole_pull(found[0]), {}) if found else _missing()


def _permission(server: GitHub, given: list[str], query: dict[str, list[str]], body: Any) -> Answered:
    if given[2] not in server.permissions:
        return _missing()
    permission, role = server.permissions[given[2]]
    rights = dict.fromkeys(("pull", "push", "admin"), permission == "admin")
    user = {**server.account(given[2]), "permissions": rights, "role_name": role}
    return 200, {"permission": permission, "role_name": role, "user": user}, {}


_BASE = "/repos/{owner}/{repo}"
ROUTES: dict[tuple[str, str], Handle] = {
    ("GET", _BASE): _repository,
    ("GET", f"{_BASE}/issues"): _issues,
    ("POST", f"{_BASE}/issues"): _new_issue,
    ("PATCH", f"{_BASE}/issues/{{issue_number}}"): _edit_issue,
    ("GET", f"{_BASE}/issues/{{issue_number}}/comments"): _comments,
    ("POST", f"{_BASE}/issues/{{issue_number}}/comments"): _new_comment,
    ("PATCH", f"{_BASE}/issues/comments/{{comment_id}}"): _edit_comment,
    ("DELETE", f"{_BASE}/issues/comments/{{comment_id}}"): _delete_comment,
    ("DELETE", f"{_BASE}/issues/{{issue_number}}/labels/{{name}}"): _remove_label,
    ("GET", f"{_BASE}/pulls"): _pulls,
    ("GET", f"{_BASE}/pulls/{{pull_number}}"): _pull,
    ("GET", f"{_BASE}/collaborators/{{username}}/permission"): _permission,
}


@contextmanager
def serve(*, prefix: str = "") -> Iterator[GitHub]:
    """Run a GitHub until the block ends; it must not have been asked what it does not know."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms, with its headers sent, for the client's word

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with running.lock:
                running.seen.append((self.command, parts.path, self.headers.get("Authorization", "")))
                fault = running.fault(self.command, parts.path)
                if fault is None or fault.done:
                    body = json.loads(content) if content else None
                    status, answer, headers = running.answer(self.command, parts.path, parse_qs(parts.query), body)
                    data = b"" if status == 204 else json.dumps(answer).encode()
                if fault is not None:
                    status, data, headers = fault.status, fault.content, fault.headers
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = GitHub(url=f"http://127.0.0.1:{server.server_port}", prefix=prefix)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert running.unknown == []
