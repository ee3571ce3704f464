"""The one comment, by the real PyGithub against a server on this machine."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from bot.errors import GithubError
from bot.github import Repository, comments, open_repository, put_comment
from bot.github.answers import Answer
from tests.github_server import Fault, GitHub

MARK = "<!-- phi-bot: comment report -->\n"


def test_a_comment_is_made_once_and_edited_afterwards(server: GitHub, repository: Repository) -> None:
    address = put_comment(repository, 5, "report", "It is smaller.")
    assert address == "https://github.com/o/r/pull/5#issuecomment-501"
    assert put_comment(repository, 5, "report", "It is larger.") == address
    assert [comment["body"] for comment in server.comments[5]] == [f"{MARK}It is larger."]


def test_equal_text_changes_nothing(server: GitHub, repository: Repository) -> None:
    put_comment(repository, 5, "report", "One.\nTwo.")
    server.comments[5][0]["body"] = server.comments[5][0]["body"].replace("\n", "\r\n")  # as after an edit in a browser
    server.seen.clear()
    put_comment(open_repository("o/r", server.environ), 5, "report", "One.\nTwo.")
    assert [method for method, _, _ in server.seen] == ["GET", "GET", "POST"]
    assert server.seen[2][1] == "/graphql", "which asks whose token it is"


def test_markers_and_pull_requests_are_kept_apart(server: GitHub, repository: Repository) -> None:
    for number, marker in ((5, "report"), (5, "candidates"), (6, "report")):
        put_comment(repository, number, marker, f"{marker} of {number}")
    assert {n: len(there) for n, there in server.comments.items()} == {5: 2, 6: 1}


def test_it_is_found_on_any_page(server: GitHub, repository: Repository) -> None:
    for number in range(7):
        server.add_comment(5, f"{number}", login="someone")
    put_comment(repository, 5, "report", "One.")
    server.add_comment(5, "another", login="someone")
    put_comment(repository, 5, "report", "Two.")
    assert [c["body"] for c in server.comments[5] if "report" in c["body"]] == [f"{MARK}Two."]


@pytest.mark.parametrize("login", ["phi-bot", "github-actions[bot]"])
@pytest.mark.parametrize("stranger", ["stranger", "Phi-Bot", "another[bot]", "github-actions"])
def test_a_comment_that_a_stranger_wrote_is_not_taken_for_the_bots(
    server: GitHub, repository: Repository, login: str, stranger: str
) -> None:
    server.login = login
    server.add_comment(5, f"{MARK}All is well.", login=stranger)
    put_comment(repository, 5, "report", "It is not.")
    put_comment(repository, 5, "report", "It is worse.")
    assert [c["body"] for c in server.comments[5]] == [f"{MARK}All is well.", f"{MARK}It is worse."]
    put_comment(repository, 5, "report", None)
    assert [c["body"] for c in server.comments[5]] == [f"{MARK}All is well."]


def test_a_comment_whose_author_is_deleted_is_nobodys(server: GitHub, repository: Repository) -> None:
    server.add_comment(5, f"{MARK}Old.")["user"] = None
    put_comment(repository, 5, "report", "New.")
    assert len(server.comments[5]) == 2


def test_a_marker_inside_a_text_is_none(server: GitHub, repository: Repository) -> None:
    server.add_comment(5, f"As was said: {MARK}")
    put_comment(repository, 5, "report", "It is smaller.")
    assert len(server.comments[5]) == 2


def test_a_deleted_comment_is_made_again(server: GitHub, repository: Repository) -> None:
    put_comment(repository, 5, "report", "One.")
    server.comments[5].clear()
    put_comment(repository, 5, "report", "One.")
    assert [c["body"] for c in server.comments[5]] == [f"{MARK}One."]


def test_a_comment_that_is_deleted_while_it_is_edited_is_made_again(
    server: GitHub, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_comment(repository, 5, "report", "One.")
    patch = Repository.patch

    def late(self: Repository, path: str, body: dict[str, str], what: str) -> Answer | None:
        server.comments[5].clear()
        return patch(self, path, body, what)

    monkeypatch.setattr(Repository, "patch", late)
    put_comment(repository, 5, "report", "Two.")
    assert [c["body"] for c in server.comments[5]] == [f"{MARK}Two."]


def test_nothing_to_say_takes_the_comment_away(server: GitHub, repository: Repository) -> None:
    put_comment(repository, 5, "report", "One.")
    assert put_comment(repository, 5, "report", None) is None
    assert server.comments[5] == []
    put_comment(repository, 5, "report", None)


def test_two_jobs_at_the_same_moment_leave_one_comment(server: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    both, create = Barrier(2), comments._create

    def together(repository: Repository, number: int, key: str, body: str) -> list[Answer]:
        both.wait()  # neither has made its own before the other one has looked
        return create(repository, number, key, body)

    monkeypatch.setattr(comments, "_create", together)

    def job(text: str) -> str | None:
        return put_comment(open_repository("o/r", server.environ), 5, "report", text)

    with ThreadPoolExecutor(2) as pool:
        addresses = list(pool.map(job, ("One.", "Two.")))
    assert addresses == ["https://github.com/o/r/pull/5#issuecomment-501"] * 2
    assert [c["body"] for c in server.comments[5]] in ([f"{MARK}One."], [f"{MARK}Two."])


@pytest.mark.parametrize("done", [True, False])
def test_a_lost_answer_makes_no_second_comment(server: GitHub, repository: Repository, done: bool) -> None:
    server.faults = [Fault(method="POST", path=r".*/comments", status=502, done=done)]
    put_comment(repository, 5, "report", "One.")
    assert len(server.comments[5]) == 1
    assert server.count("POST") == (1 if done else 2)


def test_a_text_that_is_too_long_ends_with_a_whole_line_and_says_so(server: GitHub, repository: Repository) -> None:
    lines = [f"{n}: " + "x" * 100 for n in range(1000)]
    put_comment(repository, 5, "report", "\n".join(lines))
    body = server.comments[5][0]["body"]
    head, _, rest = body.removeprefix(MARK).partition("\n\n")
    kept = rest.split("\n")
    assert head == f"**Too long for GitHub: the first {len(kept)} of 1000 lines.**"
    assert kept == lines[: len(kept)]
    assert 65_536 - 120 < len(body) <= 65_536


def test_a_text_that_just_fits_is_not_cut(server: GitHub, repository: Repository) -> None:
    text = "x" * (65_536 - len(MARK))
    put_comment(repository, 5, "report", text)
    assert server.comments[5][0]["body"] == MARK + text
    put_comment(repository, 5, "report", text + "x")
    assert server.comments[5][0]["body"] == f"{MARK}**Too long for GitHub: the first 0 of 1 lines.**\n\n"


@pytest.mark.parametrize("marker", ["", "two words", "-->", "a\nb", "UPPER", "x" * 101])
def test_a_malformed_marker_is_a_bug_of_ours(repository: Repository, marker: str) -> None:
    with pytest.raises(ValueError, match="is not a marker"):
        put_comment(repository, 5, marker, "text")


def test_a_token_that_may_not_comment_is_said(server: GitHub, repository: Repository) -> None:
    needed = {"X-Accepted-GitHub-Permissions": "issues=write; pull_requests=write"}
    message = "Resource not accessible by integration"
    server.faults = [Fault(method="POST", path=r".*/comments", status=403, message=message, headers=needed)]
    with pytest.raises(GithubError, match=message) as raised:
        put_comment(repository, 5, "report", "text")
    assert raised.value.hint == "GITHUB_TOKEN needs the permission issues: write; pull-requests: write."
