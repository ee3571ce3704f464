"""Pull requests, labels and permissions, by the real PyGithub against a server on this machine."""

from typing import Any

import pytest

from bot.errors import GithubError
from bot.github import (
    Pull,
    Repository,
    find_pull,
    permission_of,
    read_pull,
    remove_label,
)
from tests import github_answers as answers
from tests.github_server import Fault, GitHub

A, B, C = "a" * 40, "b" * 40, "c" * 40


def add(server: GitHub, number: int, **more: Any) -> dict[str, Any]:
    server.pulls.append(answers.pull(server.api, number, **more))
    return server.pulls[-1]


def test_a_pull_request_is_read(server: GitHub, repository: Repository) -> None:
    add(server, 5, labels=("convert:o/m",))
    assert read_pull(repository, 5) == Pull(
        number=5,
        state="open",
        merged=False,
        head_sha=A,
        head_repository="o/r",
        labels=("convert:o/m",),
        merge_commit=None,
    )


def test_a_merged_one_has_the_commit_that_merging_made(server: GitHub, repository: Repository) -> None:
    add(server, 5).update(state="closed", merged_at=answers.MOMENT)
    add(server, 6).update(state="closed")
    pull = read_pull(repository, 5)
    assert (pull.state, pull.merged, pull.merge_commit) == ("closed", True, C)
    pull = read_pull(repository, 6)
    assert (pull.state, pull.merged, pull.merge_commit) == ("closed", False, None)


def test_a_fork_is_known_even_when_it_is_deleted(server: GitHub, repository: Repository) -> None:
    add(server, 5, head="someone/r")
    add(server, 6, head="someone/r")["head"]["repo"] = None
    pulls = [read_pull(repository, number) for number in (5, 6)]
    assert [pull.head_repository for pull in pulls] == ["someone/r", None]


def test_the_pull_request_of_a_forks_run_is_found_by_its_commit(server: GitHub, repository: Repository) -> None:
    add(server, 4, head="someone/r", branch="other")
    add(server, 5, head="someone/r", sha=C)
    add(server, 7, head="someone/r")
    add(server, 6, head="someone/r")
    add(server, 8, head="someone/another")
    found = find_pull(repository, head_repository="someone/r", head_branch="topic", head_sha=A)
    assert found is not None
    assert found.number == 6, "the first of those that fit"
    assert find_pull(repository, head_repository="someone/r", head_branch="topic", head_sha=B) is None
    server.pulls[3]["state"] = server.pulls[2]["state"] = "closed"
    assert find_pull(repository, head_repository="someone/r", head_branch="topic", head_sha=A) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (("admin", "admin"), "admin"),
        (("write", "maintain"), "maintain"),
        (("write", "write"), "write"),
        (("read", "triage"), "triage"),
        (("read", "read"), "read"),
        (("none", "none"), "none"),
        (("read", "admin"), "read"),  # a role of an organization's own may have any name
        (("write", "Release managers"), "write"),
        (("anything", "anything"), "none"),
    ],
)
def test_a_permission_is_the_one_that_is_told(
    server: GitHub, repository: Repository, told: tuple[str, str], expected: str
) -> None:
    server.permissions["someone"] = told
    assert permission_of(repository, "someone") == expected


def test_who_is_not_there_has_no_permission(server: GitHub, repository: Repository) -> None:
    assert permission_of(repository, "someone") == "none"
    assert permission_of(repository, "an-app[bot]") == "none"


def test_a_repository_that_is_not_there_is_an_error_and_no_permission(server: GitHub, repository: Repository) -> None:
    server.faults = [Fault(method="GET", path="/repos/o/r", status=404, message="Not Found")]
    with pytest.raises(GithubError, match="404"):
        permission_of(repository, "someone")


def test_another_accounts_permission_is_not_taken(server: GitHub, repository: Repository) -> None:
    admin = {"permission": "admin", "role_name": "admin", "user": server.account("admin")}
    server.faults = [Fault(method="GET", path=".*/permission", status=200, answer=admin)]
    with pytest.raises(GithubError, match="another account"):
        permission_of(repository, "someone")


@pytest.mark.parametrize("login", ["", ".", "..", "a/b", "a b", "a?b", "[bot]", "a\n", "x" * 101])
def test_a_malformed_login_is_not_asked_about(server: GitHub, repository: Repository, login: str) -> None:
    with pytest.raises(GithubError, match="is not a login"):
        permission_of(repository, login)
    assert server.seen == []


def test_a_label_is_taken_off_once(server: GitHub, repository: Repository) -> None:
    name = "convert:o/m %2F ../x?#"
    add(server, 5, labels=(name, "kept"))
    remove_label(repository, 5, name)
    assert read_pull(repository, 5).labels == ("kept",)
    remove_label(repository, 5, name)


@pytest.mark.parametrize("label", ["", ".", ".."])
def test_a_label_whose_address_would_be_another_one_is_refused(
    server: GitHub, repository: Repository, label: str
) -> None:
    with pytest.raises(GithubError, match="is not a label"):
        remove_label(repository, 5, label)
    assert server.seen == []
