"""Requests that no client makes: each gets a clear answer, and nothing outside the folder."""

import base64
import json
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi

from bot.errors import LocalHubError
from bot.localhub import RunningHub, ServerLimits, serve
from tests.localhub.conftest import Ask

HEADER = '{"key": "header", "value": {"summary": "x"}}\n'


def raw(hub: RunningHub, text: bytes) -> bytes:
    """Send bytes as they are and return all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", urlsplit(hub.url).port or 0), timeout=20) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
    return found


def statuses(answer: bytes) -> list[int]:
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


def request(hub: RunningHub, line: str, *headers: str, body: str = "", host: str | None = None) -> bytes:
    name = host if host is not None else urlsplit(hub.url).netloc
    return "\r\n".join([line, f"Host: {name}", *headers, "", body]).encode()


@pytest.mark.parametrize(
    "path",
    [
        "/../token", "/..%2ftoken", "/%2e%2e/token", "/%2e%2e%2ftoken", "/static/../token", "/static/..%2f..%2ftoken",
        "/static/%2e%2e/base.html.j2", "/static/base.html.j2", "/static//etc/passwd", "/org/m/raw/main/repo.json",
        "/org/m/resolve/main/../../../token", "/org/m/resolve/main/%2e%2e/%2e%2e/token",
        "/org/m/resolve/main/..%2f..%2f..%2ftoken", "/org/m/resolve/..%2f..%2f..%2f..%2f..%2ftoken/x",
        "/api/models/org/..%2f..%2f..%2ftokens.json", "/api/models/..%2f..%2f..%2fsecret/x",
        "/api/models/org/m/tree/main/..%2f..", "/org/m/blob/main/%2fetc%2fpasswd", "/org/m/resolve/main/a%00b",
        "/org/m/discussions/..%2f..%2frepo", "/_lfs/download?repo=models/../..&sha256=token",
    ],
)  # fmt: skip
def test_no_address_leads_out_of_the_repos(hub: RunningHub, api: HfApi, path: str) -> None:
    api.create_repo("org/m")
    answer = raw(hub, request(hub, f"GET {path} HTTP/1.1", "Connection: close"))
    assert statuses(answer)[0] in (400, 401, 403, 404)
    for secret in (hub.token_file, hub.hub.folder / "secret", hub.hub.folder / "tokens.json"):
        assert secret.read_bytes() not in answer
    assert b"root:" not in answer
    assert b"{% block" not in answer


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]:80", "192.0.2.1"]
)
def test_only_loopback_names_are_answered(hub: RunningHub, host: str) -> None:
    """A page of another site may let a name of its own lead to 127.0.0.1; it must not become this Hub's page."""
    assert statuses(raw(hub, request(hub, "GET / HTTP/1.1", "Connection: close", host=host))) == [421]


def test_loopback_names(hub: RunningHub) -> None:
    for host in ("localhost", "localhost:1234", "127.0.0.1", "[::1]:9", "LOCALHOST"):
        assert statuses(raw(hub, request(hub, "GET / HTTP/1.1", "Connection: close", host=host))) == [200]
    two = request(hub, "GET / HTTP/1.1", "Host: 127.0.0.1", "Connection: close")
    assert statuses(raw(hub, two)) == [421]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Transfer-Encoding: chunked"], 411),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], 411),
        (["Content-Length: 5", "Content-Length: 6"], 400),
        (["Content-Length: 5, 5"], 400),
        (["Content-Length: +5"], 400),
        (["Content-Length: -5"], 400),
        (["Content-Length: \u0665"], 400),
        (["Content-Length: 99999999999999999999"], 400),
        (["Content-Length: 0x5"], 400),
    ],
)
def test_a_second_request_cannot_hide_in_a_body(hub: RunningHub, headers: list[str], status: int) -> None:
    hidden = request(hub, "DELETE /api/repos/delete HTTP/1.1").decode()
    answer = raw(hub, request(hub, "POST /api/validate-yaml HTTP/1.1", *headers, body=f"0\r\n\r\n{hidden}"))
    assert statuses(answer) == [status]


@pytest.mark.parametrize(
    "header", ["Content-Length : 5", "Foo Bar", ": x", "X: 1\r\n Content-Length: 5", " Host: 127.0.0.1"]
)
def test_malformed_headers_are_refused(hub: RunningHub, header: str) -> None:
    answer = raw(hub, request(hub, "POST /api/validate-yaml HTTP/1.1", header, body="{}"))
    assert statuses(answer) == [400]


def test_an_unread_body_is_not_the_next_request(hub: RunningHub) -> None:
    hidden = request(hub, "GET /datasets HTTP/1.1").decode()
    answer = raw(hub, request(hub, "GET / HTTP/1.1", f"Content-Length: {len(hidden.encode())}", body=hidden))
    assert statuses(answer) == [200]
    answer = raw(
        hub, request(hub, "POST /none/of/these HTTP/1.1", f"Content-Length: {len(hidden.encode())}", body=hidden)
    )
    assert statuses(answer) == [404]


def test_requests_follow_each_other_on_one_connection(hub: RunningHub) -> None:
    body = '{"content": "x"}'
    first = request(hub, "POST /api/validate-yaml HTTP/1.1", f"Content-Length: {len(body)}", body=body)
    second = request(hub, "GET /datasets HTTP/1.1", "Connection: close")
    assert statuses(raw(hub, first + second)) == [200, 200]


def test_a_body_that_ends_early_changes_nothing(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    line = json.dumps({"key": "header", "value": {"summary": "x"}})
    head = [f"Authorization: Bearer {hub.token}", "Content-Length: 1000"]
    assert raw(hub, request(hub, "POST /api/models/org/m/commit/main HTTP/1.1", *head, body=f"{line}\n")) == b""
    assert len(api.list_repo_commits("org/m")) == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_other_methods(ask: Ask, method: str) -> None:
    assert ask(method, "/", body=b"").status in (405, 501)


def test_nothing_that_a_caller_says_becomes_a_header(ask: Ask, api: HfApi, hub: RunningHub) -> None:
    api.create_repo("org/m")
    answer = raw(hub, request(hub, "GET /org/m/resolve/main/a%0d%0aSet-Cookie:%20x=1 HTTP/1.1", "Connection: close"))
    assert b"\r\nSet-Cookie" not in answer
    name = "ü\u202e\"'; x=1.txt"
    api.upload_file(path_or_fileobj=b"x", path_in_repo=name, repo_id="org/m")
    found = ask("GET", "/org/m/resolve/main/%C3%BC%E2%80%AE%22%27%3B%20x%3D1.txt")
    assert found.headers["content-disposition"] == "inline; filename*=UTF-8''%C3%BC%E2%80%AE%22%27%3B%20x%3D1.txt"


@pytest.mark.parametrize("path", ["/%ff", "/a%0ab", "http://127.0.0.1/", "*", "/?%ff=%ff"])
def test_strange_addresses_get_an_answer(hub: RunningHub, path: str) -> None:
    assert statuses(raw(hub, request(hub, f"GET {path} HTTP/1.1", "Connection: close")))[0] in (302, 400, 401, 404)


@pytest.mark.server
def test_bodies_have_limits(tmp_path: Path) -> None:
    limits = ServerLimits(json_body=1000, commit_body=5000, commit_line=2000, commit_operations=3)
    with serve(tmp_path / "hub", limits=limits) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        api.create_repo("org/m")
        auth = f"Authorization: Bearer {hub.token}"

        def post(path: str, body: str) -> list[int]:
            return statuses(
                raw(hub, request(hub, f"POST {path} HTTP/1.1", auth, f"Content-Length: {len(body)}", body=body))
            )

        header = json.dumps({"key": "header", "value": {"summary": "x"}})
        one = json.dumps({"key": "deletedFile", "value": {"path": "x"}})
        commit = "/api/models/org/m/commit/main"
        assert post("/api/validate-yaml", json.dumps({"content": "x" * 2000})) == [413]
        assert post(commit, f"{header}\n{'x' * 6000}") == [413]
        assert post(commit, f"{header}\n{'x' * 3000}\n") == [413]
        assert post(commit, "\n".join([header, one, one, one, one])) == [413]
        assert len(api.list_repo_commits("org/m")) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/repos/create", "[]"),
        ("/api/repos/create", "{"),
        ("/api/repos/create", "[" * 100_000),
        ("/api/repos/create", "{}"),
        ("/api/repos/create", '{"name": 3}'),
        ("/api/repos/create", '{"name": "m", "organization": []}'),
        ("/api/repos/create", '{"name": "m", "visibility": {}}'),
        ("/api/models/org/m/preupload/main", '{"files": 3}'),
        ("/api/models/org/m/preupload/main", '{"files": [{"path": "x", "size": "1"}]}'),
        ("/api/models/org/m/preupload/main", '{"files": [{"path": "x", "size": 1, "sample": "\\u00e9"}]}'),
        ("/api/models/org/m/preupload/main", '{"files": [{"path": "\\ud800", "size": 1}]}'),
        ("/org/m.git/info/lfs/objects/batch", '{"operation": "download", "objects": []}'),
        ("/org/m.git/info/lfs/objects/batch", '{"operation": "upload", "objects": [{"oid": "x", "size": 1}]}'),
        ("/org/m.git/info/lfs/objects/batch", '{"operation": "upload", "transfers": 3, "objects": [3]}'),
        ("/api/models/org/m/tag/main", '{"tag": "../x"}'),
        ("/api/models/org/m/tag/main", '{"tag": "\\ud800"}'),
        ("/api/models/org/m/discussions", '{"title": "x"}'),
        ("/api/models/org/m/lfs-files/duplicate", '{"target": 3}'),
        ("/api/models/org/m/commit/main", ""),
        ("/api/models/org/m/commit/main", '{"key": "file"}'),
        ("/api/models/org/m/commit/main", '{"key": "header", "value": {"summary": " "}}'),
        ("/api/models/org/m/commit/main", '{"key": "header", "value": {"summary": "x", "parentCommit": "main"}}'),
        ("/api/models/org/m/commit/main", HEADER + '{"key": "file", "value": {"path": "x", "content": "e"}}'),
        (
            "/api/models/org/m/commit/main",
            HEADER + '{"key": "file", "value": {"path": "x", "content": "\u00e9", "encoding": "base64"}}',
        ),
        ("/api/models/org/m/commit/main", HEADER + '{"key": "lfsFile", "value": {"path": "x", "oid": "../../token"}}'),
    ],
)
def test_malformed_bodies_are_refused_and_change_nothing(
    hub: RunningHub, api: HfApi, ask: Ask, path: str, body: str
) -> None:
    api.create_repo("org/m")
    answer = ask("POST", path, body=body.encode(), token=hub.token)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]
    assert len(api.list_repo_commits("org/m")) == 1
    assert [m.id for m in api.list_models()] == ["org/m"]


def test_a_browser_sends_a_token_to_read_and_never_to_write(hub: RunningHub, api: HfApi, ask: Ask) -> None:
    api.create_repo("org/m", private=True)
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{hub.token}".encode()).decode()}
    assert ask("GET", "/org/m").status == 401
    assert ask("GET", "/org/m", headers=basic).status == 200
    assert ask("GET", "/login", headers=basic).status == 302
    asked = ask("GET", "/login")
    assert (asked.status, asked.headers["www-authenticate"].split()[0]) == (401, "Basic")
    for bad in ("Basic !!", "Basic bWU6eA==", "Bearer x", "Digest x", "Bearer"):
        assert ask("GET", "/", headers={"Authorization": bad}).status == 401
    wanted = json.dumps({"name": "m", "organization": "org"}).encode()
    assert ask("DELETE", "/api/repos/delete", headers=basic, body=wanted).status == 401
    assert api.repo_exists("org/m")


def test_the_token_is_not_shown(hub: RunningHub) -> None:
    assert hub.token not in repr(hub)


@pytest.mark.server
def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.com"):  # noqa: S104 - refused
        with pytest.raises(LocalHubError, match="loopback only"), serve(tmp_path / "hub", host=host):
            pass


def test_a_taken_port_is_said(tmp_path: Path, hub: RunningHub) -> None:
    port = urlsplit(hub.url).port or 0
    with (
        pytest.raises(LocalHubError, match=f"127.0.0.1:{port} cannot be listened on"),
        serve(tmp_path / "b", port=port),
    ):
        pass
