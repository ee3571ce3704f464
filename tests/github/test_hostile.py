"""Texts of strangers, and answers that GitHub would not give: data stays data, all else is one error of ours."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.errors import GithubError
from bot.github import (
    ReleaseIssue,
    Repository,
    connect,
    find_pull,
    open_repository,
    permission_of,
    put_comment,
    read_comment,
    read_pull,
    remove_label,
)
from bot.github.bodies import marked, marker_of
from tests import github_answers as answers
from tests.github_server import Fault, GitHub

HOSTILE = [
    "::set-output name=x::y",
    "\n::error file=x::y%0A::add-mask::z",
    "<script>alert(1)</script><!-- phi-bot: comment report -->",
    "<!-- phi-bot: comment report -->\nAll is well.",
    "\x1b[2J\x1b]0;title\x07\x1b[31m",
    "[x](javascript:alert(1)) ![](https://x.test/a.png) @everyone #1 `$(id)` $(id) ${{ github.token }}",
    "\u202etxt.exe\u2066 \u200b\ufeff\x00\x85\u2028",
    "../../../etc/passwd",
    "x" * 100_000,
    "",
]
RELEASE = ReleaseIssue(key="0123456789abcdef" * 4, title="Phi-4", text="One of two.", closed=False)
SHA = "a" * 40


def _announce(repository: Repository) -> object:
    environ = {"GITHUB_TOKEN": repository.token, "GITHUB_API_URL": repository.requester.base_url}
    return connect("o/r", environ).put([RELEASE])


def _find(repository: Repository) -> object:
    return find_pull(repository, head_repository="o/r", head_branch="topic", head_sha=SHA)


# All that the bot does, each with the first answer that it reads of its own.
DOINGS: dict[str, tuple[str, Callable[[Repository], object]]] = {
    "repository": ("/repos/o/r", lambda r: read_pull(r, 5)),
    "account": ("/graphql", lambda r: r.account),
    "issues": ("/repos/o/r/issues", _announce),
    "comments": ("/repos/o/r/issues/5/comments", lambda r: put_comment(r, 5, "report", "text")),
    "pull": ("/repos/o/r/pulls/5", lambda r: read_pull(r, 5)),
    "pulls": ("/repos/o/r/pulls", _find),
    "permission": ("/repos/o/r/collaborators/someone/permission", lambda r: permission_of(r, "someone")),
}
every_doing = pytest.mark.parametrize("doing", DOINGS)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["labeled", "admin", "\ud800", SHA, "o/r", "open", *HOSTILE[:6]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def filled(server: GitHub) -> dict[str, Any]:
    """Return the whole answers that the first requests would get, to be damaged."""
    issue = {"title": "Phi-4", "body": RELEASE.body, "labels": ["phi-bot"]}
    body = marked("comment report", "text")
    rights = {"permission": "admin", "role_name": "admin", "user": server.account("someone")}
    return {
        "repository": answers.repository(server.api, "o/r"),
        "account": {"data": {"viewer": {"login": "phi-bot"}}},
        "issues": [server.add(issue)],
        "comments": [answers.comment(server.api, 5, 501, body=body, user=server.account("phi-bot"))],
        "pull": answers.whole_pull(answers.pull(server.api, 5, labels=("x",))),
        "pulls": [answers.pull(server.api, 5, labels=("x",))],
        "permission": rights,
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_and_branches_are_data(server: GitHub, repository: Repository, text: str) -> None:
    server.pulls.append(answers.pull(server.api, 5, branch=text, labels=(text, "go")))
    server.pulls[0] |= {"title": text, "body": text}
    pull = read_pull(repository, 5)
    assert pull.labels == (text, "go")
    if text and len(text) < 1000:  # of that length, no address takes one
        assert find_pull(repository, head_repository="o/r", head_branch=text, head_sha=SHA) == pull
        remove_label(repository, 5, text)
        assert read_pull(repository, 5).labels == ("go",)


@pytest.mark.parametrize("text", HOSTILE)
def test_issues_and_comments_of_strangers_are_left_alone(server: GitHub, repository: Repository, text: str) -> None:
    server.add({"title": text, "body": text, "labels": ["phi-bot"]}, login="stranger")
    server.add_comment(5, text, login="stranger")
    for _ in range(2):
        assert put_comment(repository, 5, "report", "It is worse.") is not None
        assert connect("o/r", server.environ).put([RELEASE]) == ["https://github.com/o/r/issues/2"]
    assert (server.issues[0]["title"], server.issues[0]["body"], server.issues[0]["state"]) == (text, text, "open")
    assert [comment["body"] for comment in server.comments[5]] == [text, marked("comment report", "It is worse.")]
    assert read_comment(repository, 5, "report") == "It is worse."


@pytest.mark.parametrize("text", HOSTILE)
def test_a_refusal_in_strange_words_is_one_line(server: GitHub, repository: Repository, text: str) -> None:
    server.faults = [Fault(method="GET", path="/repos/o/r", status=400, message=text)]
    with pytest.raises(GithubError) as raised:
        read_pull(repository, 5)
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 400
    assert raised.value.message.startswith("GitHub refused")


@every_doing
@pytest.mark.parametrize(
    "answer",
    [
        b"<!DOCTYPE html><html><body>Sign in</body></html>",
        b"",
        b"null",
        b"true",
        b"17",
        b"NaN",
        b'"text"',
        b"{",
        b'{"message": 5}',
        b"[[]]",
        b"[null]",
        b"[" * 100_000,
        b"9" * 10_000,
        b"\xff\xfe\x00",
        b'{"data": {"viewer": null}}',
        b'{"errors": [{"message": "no"}]}',
    ],
    ids=lambda answer: repr(answer[:12]),
)
def test_an_answer_that_is_not_githubs_is_an_error(
    server: GitHub, repository: Repository, doing: str, answer: bytes
) -> None:
    path, do = DOINGS[doing]
    server.faults = [Fault(method="POST" if doing == "account" else "GET", path=path, status=200, answer=answer)]
    with pytest.raises(GithubError):
        do(repository)
    assert server.count("POST") + server.count("PATCH") + server.count("DELETE") == 0, "nothing was changed"


@every_doing
@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("answer", [b"<html>", b"", b"[]", b'{"message": ["x"]}', b'{"message": null}', b"\xff"])
def test_a_refusal_of_any_shape_is_an_error(
    server: GitHub, repository: Repository, patient: list[float], doing: str, status: int, answer: bytes
) -> None:
    path, do = DOINGS[doing]
    method = "POST" if doing == "account" else "GET"
    server.faults = [Fault(method=method, path=path, status=status, answer=answer, times=3)]
    if (doing, status) == ("permission", 404):
        assert do(repository) == "none"
        return
    with pytest.raises(GithubError):
        do(repository)
    assert all(seconds <= 60 for seconds in patient)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-RateLimit-Remaining": "many", "X-RateLimit-Limit": "all"},
        {"X-RateLimit-Remaining": "nan", "X-RateLimit-Limit": "inf"},
        {"X-RateLimit-Reset": "-"},
        {"Link": "<"},
        {"Link": '<http://[>; rel="next"'},
        {"Link": '<https://x.test/?page=2>; rel="next"'},
        {"Link": '</repos/o/r/issues?page=2>; rel="next"'},
        {"Link": 'nonsense; rel="next"'},
        {"Link": ",;=" * 1000},
    ],
)
def test_headers_of_any_shape_do_no_harm(server: GitHub, repository: Repository, headers: dict[str, str]) -> None:
    path = "/repos/o/r/issues/5/comments"
    server.faults = [Fault(method="GET", path=path, status=200, answer=[], headers=headers)]
    with suppress(GithubError):
        list(repository.pages("/issues/5/comments", "a comment"))
    assert server.count("GET") == 2


@pytest.mark.parametrize("after", ["-1", "1e9", "nan", "soon", "9" * 40, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_wait_of_any_shape_is_bounded(
    server: GitHub, repository: Repository, patient: list[float], after: str
) -> None:
    limited = Fault(method="GET", path="/repos/o/r", status=429, headers={"Retry-After": after}, times=3)
    server.faults = [limited]
    with pytest.raises(GithubError, match="rate limit"):
        read_pull(repository, 5)
    assert all(0 < seconds <= 60 for seconds in patient)


@every_doing
def test_a_damaged_answer_is_read_or_is_an_error(server: GitHub, doing: str, patient: list[float]) -> None:
    """Put anything in the place of anything in an answer: what comes is what was told, or an error of ours."""
    path, do = DOINGS[doing]
    whole = filled(server)[doing]
    places = [place for place in _places(whole) if not str(place[-1:]).endswith("url',)")]
    method = "POST" if doing == "account" else "GET"

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(place=st.sampled_from(places), value=VALUES)
    def damaged(place: tuple[Any, ...], value: Any) -> None:
        answer = _replaced(whole, place, value)
        server.faults = [Fault(method=method, path=path, status=200, answer=answer)]
        server.comments.clear()
        told = None
        with suppress(GithubError):
            told = do(open_repository("o/r", server.environ))
        if doing == "permission" and told not in (None, "none"):
            assert (answer["permission"], answer["user"]["login"].casefold()) == (told, "someone")

    damaged()


def _places(value: Any, here: tuple[Any, ...] = ()) -> Any:
    yield here
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _places(part, (*here, name))


def _replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = json.loads(json.dumps(value))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = new
    return copy


@given(text=st.text())
def test_a_text_is_found_by_its_own_marker_alone(text: str) -> None:
    assert marker_of(marked("comment report", text)) == "comment report"
    assert marked("comment report", text).endswith(text)
    assert marker_of(f" {marked('comment report', text)}") is None


@given(lines=st.lists(st.integers(0, 30_000), min_size=3, max_size=8))
def test_no_text_is_longer_than_github_takes(lines: list[int]) -> None:
    text = "\n".join("x" * length for length in lines)
    body = marked("comment report", text)
    assert len(body) <= 65_536
    assert body.endswith(text) or "**Too long for GitHub: the first" in body
