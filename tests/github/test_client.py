"""The connection: names, tokens, limits, pages and redirects, by the real PyGithub against a server on this machine."""

import time
from collections.abc import Iterator

import pytest

from bot.errors import GithubError
from bot.github import Repository, client, open_repository
from tests.github_server import Fault, GitHub, serve

PAUSE = client._PAUSE
LIMIT = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@pytest.fixture
def other() -> Iterator[GitHub]:
    """Another server, which the bot has no business with."""
    with serve() as running:
        yield running


def listed(repository: Repository) -> list[str]:
    return [c["body"].text() for c in repository.pages("/issues/5/comments", "a comment")]


def test_every_page_of_a_listing_is_read(server: GitHub, repository: Repository) -> None:
    bodies = [f"number {n}" for n in range(7)]
    for body in bodies:
        server.add_comment(5, body)
    assert listed(repository) == bodies
    assert [path for _, path, _ in server.seen].count("/repos/o/r/issues/5/comments") == 3


@pytest.mark.parametrize("path", ["/repos/o/r/issues/5/comments", "/repositories/1/issues/5/comments"])
def test_a_next_page_that_is_the_same_one_is_an_error(server: GitHub, repository: Repository, path: str) -> None:
    link = f'<{server.url}{path}?per_page=100>; rel="next"'
    server.faults = [Fault(method="GET", path=r".*/comments", status=200, answer=[], headers={"Link": link}, times=9)]
    with pytest.raises(GithubError, match="does not end"):
        listed(repository)
    assert server.count("GET") == 2  # the repository, and one page


def test_a_listing_without_end_is_an_error(server: GitHub, repository: Repository) -> None:
    server.faults = [
        Fault(
            method="GET",
            path=r".*/comments",
            status=200,
            answer=[],
            headers={"Link": f'<{server.url}/x?page={page}>; rel="next"'},
        )
        for page in range(2, 200)
    ]
    with pytest.raises(GithubError, match="does not end"):
        listed(repository)
    assert server.count("GET") == 101


def test_a_next_page_on_another_host_is_not_asked_for(server: GitHub, other: GitHub, repository: Repository) -> None:
    link = f'<{other.url}/repos/o/r/issues/5/comments?page=2>; rel="next"'
    server.faults = [Fault(method="GET", path=r".*/comments", status=200, answer=[], headers={"Link": link})]
    with pytest.raises(GithubError, match="another host"):
        listed(repository)
    assert other.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_redirect_to_another_host_never_gets_the_token(
    server: GitHub, other: GitHub, repository: Repository, method: str, status: int
) -> None:
    elsewhere = other.url.replace("127.0.0.1", "localhost") + "/repos/o/r/issues/1"
    server.faults = [
        Fault(method=method, path=r".*/1", status=status, headers={"Location": elsewhere}, answer={"number": 1})
    ]
    with pytest.raises(GithubError):
        ask(repository, method)
    assert other.seen == []


def ask(repository: Repository, method: str) -> None:
    if method == "GET":
        repository.get("/issues/1", "an issue")
    elif method == "POST":
        repository.post("/issues/1", {}, "an issue", found=lambda: None)
    elif method == "PATCH":
        repository.patch("/issues/1", {}, "an issue")
    else:
        repository.delete("/issues/1", "an issue")


def test_a_renamed_repository_is_an_error_before_its_listings_are_read(server: GitHub, repository: Repository) -> None:
    server.name = "o/renamed"  # GitHub redirects, PyGithub follows
    with pytest.raises(GithubError, match="o/r is called o/renamed now"):
        listed(repository)
    assert [path for _, path, _ in server.seen] == ["/repos/o/r"]


def test_a_repository_that_is_not_there_is_an_error(server: GitHub) -> None:
    with pytest.raises(GithubError, match="refused anything in o/x") as raised:
        listed(open_repository("o/x", server.environ))
    assert raised.value.hint == "Is there anything in o/x, and may GITHUB_TOKEN see it?"


def test_letters_of_another_case_are_the_same_repository(server: GitHub) -> None:
    server.name = "O/R"
    with pytest.raises(GithubError, match="404"):  # the server on this machine is stricter than GitHub
        listed(open_repository("o/r", server.environ))
    assert server.seen[-1][1] == "/repos/O/R/issues/5/comments"


@pytest.mark.server
@pytest.mark.parametrize("prefix", ["", "/api/v3"])
def test_github_enterprise_is_asked_below_its_prefix(prefix: str) -> None:
    with serve(prefix=prefix) as server:
        server.add_comment(5, "hello")
        repository = open_repository("o/r", server.environ)
        assert listed(repository) == ["hello"]
        assert repository.account == "phi-bot"
        graphql = "/api/graphql" if prefix else "/graphql"
        assert [path for _, path, _ in server.seen] == [
            f"{prefix}/repos/o/r",
            f"{prefix}/repos/o/r/issues/5/comments",
            graphql,
        ]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_request_that_can_be_repeated_is_repeated(
    server: GitHub, repository: Repository, method: str, status: int
) -> None:
    number = server.add_comment(5, "hello")["id"]
    server.faults = [Fault(method=method, path=r".*/comments.*", status=status, headers={"Retry-After": "0"}, times=2)]
    if method == "GET":
        assert listed(repository) == ["hello"]
    elif method == "PATCH":
        assert repository.patch(f"/issues/comments/{number}", {"body": "changed"}, "a comment")
        assert listed(repository) == ["changed"]
    else:
        repository.delete(f"/issues/comments/{number}", "a comment")
        assert listed(repository) == []


def test_writes_leave_each_other_time(server: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSE", PAUSE)
    repository = open_repository("o/r", server.environ)
    started = time.monotonic()
    for number in range(3):
        repository.delete(f"/issues/comments/{number + 1}", "a comment")
    assert time.monotonic() - started >= 2.0


def test_a_deletion_whose_answer_was_lost_is_a_success(server: GitHub, repository: Repository) -> None:
    number = server.add_comment(5, "hello")["id"]
    server.faults = [
        Fault(method="DELETE", path=r".*/comments/.*", status=502, headers={"Retry-After": "0"}, done=True)
    ]
    repository.delete(f"/issues/comments/{number}", "a comment")
    assert (server.comments[5], server.count("DELETE")) == ([], 2)


@pytest.mark.parametrize(
    ("status", "message", "headers"),
    [
        (403, LIMIT, {"Retry-After": "1"}),
        (403, "You have triggered an abuse detection mechanism.", {"Retry-After": "1"}),
        (429, "Too many requests", {"Retry-After": "1"}),
        (403, "API rate limit exceeded for user ID 1.", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now}"}),
        (429, "API rate limit exceeded for user ID 1.", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{now}"}),
    ],
)
def test_a_limit_is_waited_for(
    server: GitHub,
    repository: Repository,
    patient: list[float],
    status: int,
    message: str,
    headers: dict[str, str],
) -> None:
    headers = {name: value.format(now=int(time.time())) for name, value in headers.items()}
    server.faults = [Fault(method="GET", path=r".*/comments", status=status, message=message, headers=headers)]
    assert listed(repository) == []
    assert sum(patient) > 0.5


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "3600"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}],
)
def test_a_limit_that_ends_in_an_hour_is_not_waited_for(
    server: GitHub, repository: Repository, headers: dict[str, str]
) -> None:
    server.faults = [Fault(method="GET", path=r".*/comments", status=403, message=LIMIT, headers=headers, times=9)]
    with pytest.raises(GithubError, match="rate limit"):
        listed(repository)
    assert server.count("GET") == 2  # the repository, and one try


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [
        (401, {}, "wrong or has expired"),
        (403, {}, "issues: write"),
        (403, {"X-Accepted-GitHub-Permissions": "pull_requests=read"}, "pull-requests: read"),
        (403, {"X-Accepted-GitHub-Permissions": "\x1b[31m anything"}, "issues: write"),
        (404, {}, "Is there a comment in o/r"),
        (410, {}, "Turn issues on"),
        (422, {}, "Try again later"),
    ],
)
def test_a_refusal_comes_with_a_remedy(
    server: GitHub, repository: Repository, status: int, headers: dict[str, str], hint: str
) -> None:
    server.faults = [Fault(method="GET", path=r".*/comments", status=status, message="no", headers=headers)]
    with pytest.raises(GithubError, match=f"{status}: no") as raised:
        listed(repository)
    assert hint in raised.value.hint


def test_a_server_that_does_not_answer_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(GithubError, match="does not answer"):
        listed(open_repository("o/r", {"GITHUB_TOKEN": "t", "GITHUB_API_URL": "http://127.0.0.1:9"}))


def test_the_token_comes_from_the_environment_and_stands_in_no_text(server: GitHub, repository: Repository) -> None:
    listed(repository)
    assert {authorization for _, _, authorization in server.seen} == {"token a-token"}
    assert "a-token" not in repr(repository)
    server.faults = [Fault(method="GET", path=r".*/comments", status=400, message="what is a-token?")]
    with pytest.raises(GithubError) as raised:
        listed(repository)
    assert "a-token" not in str(raised.value) + raised.value.hint


@pytest.mark.parametrize("token", ["", " \n", "a\nb", "a b\x7f", "tökén"])
def test_a_malformed_token_is_an_error(server: GitHub, token: str) -> None:
    with pytest.raises(GithubError, match="token") as raised:
        open_repository("o/r", server.environ | {"GITHUB_TOKEN": token})
    assert not token.strip() or token not in str(raised.value)
    assert server.seen == []


def test_a_line_end_behind_the_token_does_no_harm(server: GitHub) -> None:
    listed(open_repository("o/r", server.environ | {"GITHUB_TOKEN": "a-token\n"}))
    assert server.seen[-1][2] == "token a-token"


@pytest.mark.parametrize(
    "address",
    [
        "http://github.example/api/v3",
        "ftp://github.example",
        "github.example",
        "https://user@github.example",
        "https://github.example:99999",
        "https://[",
        "https://github.example/?x=1",
    ],
)
def test_a_token_goes_to_no_address_that_is_not_https(address: str) -> None:
    with pytest.raises(GithubError, match="not the https address"):
        open_repository("o/r", {"GITHUB_TOKEN": "t", "GITHUB_API_URL": address})


@pytest.mark.parametrize("name", ["", "o", "o/", "/r", "o/r/x", "o/..", "o/.", "o r/x", "o/r\n", "o/r?x", "../r"])
def test_a_text_that_names_no_repository_is_an_error(server: GitHub, name: str) -> None:
    with pytest.raises(GithubError, match="names no repository"):
        open_repository(name, server.environ)
