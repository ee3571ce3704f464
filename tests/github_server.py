"""The part of GitHub's API that has to do with issues, on this machine, for the real PyGithub to talk to."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PAGE = 3  # issues, so that a few of them make several pages


@dataclass(kw_only=True)
class Fault:
    """What happens to the next request that matches: an answer in GitHub's place, after it was done or not at all."""

    method: str
    path: str
    status: int
    message: str = "went wrong"
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False
    times: int = 1


@dataclass(kw_only=True)
class GitHub:
    """A running server with one repository, ``o/r``. ``login`` is None where tokens are an app's."""

    url: str
    login: str | None = "phi-bot"
    labels: bool = True  # whether the token may set them
    issues: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, authorization
    lock: Lock = field(default_factory=Lock)

    @property
    def environ(self) -> dict[str, str]:
        """What GitHub Actions, or a person, puts into the environment."""
        return {"GITHUB_TOKEN": "a-token", "GITHUB_API_URL": self.url}

    def count(self, method: str) -> int:
        """Return how many requests of a method there were."""
        return sum(m == method for m, _, _ in self.seen)

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what is to happen to a request."""
        for fault in self.faults:
            if fault.times and fault.method == method and re.fullmatch(fault.path, path):
                fault.times -= 1
                return fault
        return None

    def add(self, given: dict[str, Any], *, user: dict[str, str] | None = None) -> dict[str, Any]:
        """Make an issue."""
        number = len(self.issues) + 1
        account = {"login": self.login, "type": "User"} if self.login else {"login": "actions[bot]", "type": "Bot"}
        issue = {
            "url": f"{self.url}/repos/o/r/issues/{number}",
            "html_url": f"https://github.com/o/r/issues/{number}",
            "number": number,
            "title": given["title"],
            "body": given.get("body"),
            "state": "open",
            "state_reason": None,
            "labels": [{"name": name} for name in given.get("labels", [])] if self.labels else [],
            "user": user or account,
        }
        self.issues.append(issue)
        return issue

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any, dict[str, str]]:
        """Do what a request asks."""
        if (method, path) == ("GET", "/user"):
            return (200, {"login": self.login}, {}) if self.login else (403, {"message": "not accessible"}, {})
        if (method, path) == ("GET", "/repos/o/r/issues"):
            assert query["state"] == ["all"]
            names = set(query["labels"][0].split(","))
            found = [i for i in reversed(self.issues) if names <= {label["name"] for label in i["labels"]}]
            page = int(query.get("page", ["1"])[0])
            more = f'<{self.url}{path}?state=all&labels={query["labels"][0]}&page={page + 1}>; rel="next"'
            links = {"Link": more} if page * _PAGE < len(found) else {}
            return 200, found[(page - 1) * _PAGE : page * _PAGE], links
        if (method, path) == ("POST", "/repos/o/r/issues"):
            return 201, self.add(body), {}
        numbered = re.fullmatch(r"/repos/o/r/issues/(\d+)", path)
        if numbered and method == "PATCH":
            self.issues[int(numbered[1]) - 1] |= body
            return 200, self.issues[int(numbered[1]) - 1], {}
        return 404, {"message": "Not Found"}, {}


@contextmanager
def serve() -> Iterator[GitHub]:
    """Run a GitHub until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with running.lock:
                running.seen.append((self.command, parts.path, self.headers.get("Authorization", "")))
                fault = running.fault(self.command, parts.path)
                if fault is None or fault.done:
                    body = json.loads(content) if content else None
                    status, answer, headers = running.answer(self.command, parts.path, parse_qs(parts.query), body)
                if fault is not None:
                    status, answer, headers = fault.status, {"message": fault.message}, fault.headers
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = GitHub(url=f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
