"""Issues of releases, by the real PyGithub against a server on this machine."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from bot.errors import GithubError
from bot.github import Issues, ReleaseIssue, connect
from bot.github.answers import Answer
from bot.system.workflow_run import run_address
from tests.github_server import Fault, GitHub

KEY = "0123456789abcdef" * 4
RELEASE = ReleaseIssue(key=KEY, title="Phi-4 (0123)", text="1 of 2 variants are published.", closed=False)


def put(server: GitHub, *wanted: ReleaseIssue) -> list[str]:
    return connect("o/r", server.environ).put(wanted)


def test_a_release_gets_one_issue_which_is_edited_afterwards(server: GitHub) -> None:
    assert put(server, RELEASE) == ["https://github.com/o/r/issues/1"]
    (issue,) = server.issues
    assert (issue["title"], issue["state"]) == ("Phi-4 (0123)", "open")
    assert issue["body"].endswith("1 of 2 variants are published.")
    assert [label["name"] for label in issue["labels"]] == ["phi-bot"]
    put(server, replace(RELEASE, text="All of it is published.", closed=True))
    assert len(server.issues) == 1
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    assert "All of it" in issue["body"]
    put(server, RELEASE)
    assert (len(server.issues), issue["state"]) == (1, "open"), "it failed again"


def test_an_issue_that_is_up_to_date_is_left_alone(server: GitHub) -> None:
    put(server, RELEASE)
    server.issues[0]["body"] = server.issues[0]["body"].replace("\n", "\r\n")  # as after an edit in a browser
    server.seen.clear()
    put(server, RELEASE)
    assert [(method, path) for method, path, _ in server.seen] == [
        ("GET", "/repos/o/r"),
        ("GET", "/repos/o/r/issues"),
        ("POST", "/graphql"),  # whose token it is
    ]


def test_nothing_to_say_asks_for_nothing(server: GitHub) -> None:
    assert put(server) == []
    assert server.seen == []


def test_an_issue_is_found_on_any_page_and_among_closed_ones(server: GitHub) -> None:
    put(server, replace(RELEASE, closed=True))
    for number in range(7):
        server.add({"title": "another", "body": f"<!-- phi-bot: release {number:064x} -->\n", "labels": ["phi-bot"]})
    put(server, replace(RELEASE, closed=True))
    assert len(server.issues) == 8


def test_an_issue_closed_as_not_planned_stays_closed(server: GitHub) -> None:
    put(server, RELEASE)
    server.issues[0] |= {"state": "closed", "state_reason": "not_planned"}
    put(server, replace(RELEASE, text="It failed again."))
    assert server.issues[0]["state"] == "closed"
    assert "It failed again." in server.issues[0]["body"], "though it says so"


@pytest.mark.parametrize("login", ["phi-bot", "github-actions[bot]"])
def test_an_issue_that_a_stranger_wrote_is_not_taken_for_the_bots(server: GitHub, login: str) -> None:
    server.login = login
    forged = [
        server.add({"title": "mine", "body": RELEASE.body, "labels": ["phi-bot"]}, login=stranger)
        for stranger in ("stranger", "another[bot]")
    ]
    put(server, RELEASE)
    put(server, replace(RELEASE, closed=True))
    assert len(server.issues) == 3
    assert [(issue["title"], issue["state"]) for issue in forged] == [("mine", "open")] * 2
    assert server.issues[2]["state"] == "closed"


def test_two_bots_at_the_same_moment_leave_one_open_issue(server: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Barrier(2)
    create = Issues._create

    def together(issues: Issues, one: ReleaseIssue) -> list[Answer]:
        both.wait()  # neither has made its own before the other one has looked
        return create(issues, one)

    monkeypatch.setattr(Issues, "_create", together)
    with ThreadPoolExecutor(2) as pool:
        addresses = [f.result() for f in [pool.submit(put, server, RELEASE) for _ in range(2)]]
    assert addresses == [["https://github.com/o/r/issues/1"]] * 2
    assert [issue["state"] for issue in server.issues] == ["open", "closed"]
    assert server.issues[1]["body"].endswith("The same release as #1.")
    put(server, RELEASE)
    assert len(server.issues) == 2, "nor is another one made later"


def test_an_issue_whose_answer_was_lost_is_not_made_again(server: GitHub, patient: list[float]) -> None:
    server.faults = [Fault(method="POST", path="/repos/o/r/issues", status=502, done=True)]
    assert put(server, RELEASE) == ["https://github.com/o/r/issues/1"]
    assert (len(server.issues), server.count("POST")) == (1, 1)


def test_an_issue_that_was_not_made_is_made_again(server: GitHub, patient: list[float]) -> None:
    server.faults = [Fault(method="POST", path="/repos/o/r/issues", status=502)]
    put(server, RELEASE)
    assert (len(server.issues), server.count("POST")) == (1, 2)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_secondary_limit_is_waited_for(server: GitHub, patient: list[float], method: str) -> None:
    if method == "PATCH":
        put(server, RELEASE)
    limit = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    path = r"/repos/o/r/issues(/\d+)?"
    server.faults = [Fault(method=method, path=path, status=403, message=limit, headers={"Retry-After": "1"})]
    put(server, replace(RELEASE, text="Another text."))
    assert len(server.issues) == 1
    assert "Another text." in server.issues[0]["body"]
    assert sum(patient) >= 1


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_request_that_can_be_repeated_is_repeated(server: GitHub, patient: list[float], method: str) -> None:
    put(server, RELEASE)
    server.faults = [Fault(method=method, path="/repos/o/r/issues.*", status=502, times=2)]
    put(server, replace(RELEASE, closed=True))
    assert server.issues[0]["state"] == "closed"
    assert len(patient) == 2


def test_a_limit_that_ends_in_an_hour_is_not_waited_for(server: GitHub) -> None:
    limit = "API rate limit exceeded for installation"
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}
    server.faults = [Fault(method="POST", path="/repos/o/r/issues", status=403, message=limit, headers=headers)]
    with pytest.raises(GithubError, match="rate limit"):
        put(server, RELEASE)


def test_issues_that_are_turned_off_are_said(server: GitHub) -> None:
    server.faults = [Fault(method="GET", path="/repos/o/r/issues", status=410, message="Issues are disabled")]
    with pytest.raises(GithubError, match="refused an issue in o/r") as raised:
        put(server, RELEASE)
    assert raised.value.hint == "Turn issues on in the settings of o/r."


def test_a_label_that_the_token_may_not_set_is_said_and_leaves_nothing_open(server: GitHub) -> None:
    server.labels = False
    with pytest.raises(GithubError, match="may not put the label"):
        put(server, RELEASE)
    assert [issue["state"] for issue in server.issues] == ["closed"]


def test_the_address_of_a_run_is_known_on_actions_alone() -> None:
    actions = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "7"}
    assert run_address(actions) == "https://github.com/o/r/actions/runs/7"
    assert run_address({}) == ""
