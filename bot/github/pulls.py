"""Pull requests: what is in them, who labeled them, and who may."""

import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import quote

from bot.errors import GithubError
from bot.github.answers import COMMIT, LOGIN, REPOSITORY, Answer
from bot.github.client import Repository

Permission = Literal["admin", "maintain", "write", "triage", "read", "none"]

_PERMISSIONS: tuple[Permission, ...] = get_args(Permission)
_STATE = re.compile("open|closed")
_INCLUDED = {"maintain": "write", "triage": "read"}  # roles, and the older permission that each is told with


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull request. ``labels`` are texts of strangers, ``head_repository`` is None where the fork was deleted.

    ``merge_commit`` is what merging made, None before.
    """

    number: int
    state: Literal["open", "closed"]
    merged: bool
    head_sha: str
    head_repository: str | None
    labels: tuple[str, ...]
    merge_commit: str | None


def read_pull(repository: Repository, number: int) -> Pull:
    """Return a pull request. Raises GithubError."""
    pull = _pull(repository, repository.get(f"/pulls/{number}", "a pull request"))
    if pull.number != number:
        raise GithubError(f"GitHub answered pull request {pull.number} for {number}", hint="Try again later.")
    return pull


def find_pull(repository: Repository, *, head_repository: str, head_branch: str, head_sha: str) -> Pull | None:
    """Return the open pull request that a commit of a fork's branch is the head of, the first one if there are several.

    The event of a workflow's run names none where it came from a fork. None too where the branch has moved on.
    Raises GithubError.
    """
    if not REPOSITORY.fullmatch(head_repository) or not COMMIT.fullmatch(head_sha):
        raise GithubError(
            f"{head_repository[:200]!r} at {head_sha[:50]!r} is not a commit", hint="Is the event GitHub's?"
        )
    head = f"{head_repository.split('/')[0]}:{head_branch}"
    listed = repository.pages("/pulls", "a pull request", state="open", head=head)
    fitting = [
        pull
        for pull in (_pull(repository, answer) for answer in listed)
        if pull.head_sha == head_sha and (pull.head_repository or "").casefold() == head_repository.casefold()
    ]
    return min(fitting, key=lambda pull: pull.number, default=None)


def permission_of(repository: Repository, login: str) -> Permission:
    """Return what an account may do in the repository. A role of an organization's own counts as what it builds on.

    Raises GithubError; an account that is none of the repository, or nobody's, has the permission "none".
    """
    if not LOGIN.fullmatch(login):
        raise GithubError(f"{login[:100]!r} is not a login", hint="Is the event GitHub's?")
    answer = repository.find(f"/collaborators/{quote(login, safe='')}/permission", "a permission")
    if answer is None:
        return "none"
    told = answer.get("user")
    if told is None or told["login"].text().casefold() != login.casefold():
        raise GithubError(f"GitHub answered another account's permission than {login}'s", hint="Try again later.")
    permission = _permission(answer["permission"].text())
    role = answer.get("role_name")
    if role is not None and _INCLUDED.get(role.text()) == permission:
        return _permission(role.text())
    return permission


def remove_label(repository: Repository, number: int, label: str) -> None:
    """Take a label off, if it is still there. Raises GithubError."""
    if label in ("", ".", ".."):  # as the end of an address, each names something else: all labels, or the issue
        raise GithubError(f"{label!r} is not a label that can be removed", hint="Remove it by hand.")
    repository.delete(f"/issues/{number}/labels/{quote(label, safe='')}", "a label")


def _pull(repository: Repository, answer: Answer) -> Pull:
    head, base = answer["head"], answer["base"]
    if base["repo"]["full_name"].text(REPOSITORY).casefold() != repository.name.casefold():
        raise GithubError(
            f"GitHub answered a pull request of another repository than {repository.name}", hint="Try again later."
        )
    origin = head.get("repo")
    merged = answer.get("merged_at") is not None
    commit = answer.get("merge_commit_sha") if merged else None
    return Pull(
        number=answer["number"].number(),
        state="open" if answer["state"].text(_STATE) == "open" else "closed",
        merged=merged,
        head_sha=head["sha"].text(COMMIT),
        head_repository=origin["full_name"].text(REPOSITORY) if origin is not None else None,
        labels=tuple(label["name"].text() for label in answer["labels"]),
        merge_commit=commit.text(COMMIT) if commit is not None else None,
    )


def _permission(name: str) -> Permission:
    return next((known for known in _PERMISSIONS if known == name), "none")
