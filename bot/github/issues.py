"""An issue for every release, made once and then kept up to date."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bot.errors import GithubError
from bot.github.client import TRIES, no_issues, open_repository, told, wait_before_another_try

if TYPE_CHECKING:
    from github.Issue import Issue
    from github.NamedUser import NamedUser
    from github.Repository import Repository

LABEL = "phi-bot"
_MARKER = re.compile(r"\A<!-- phi-bot: release ([0-9a-f]{64}) -->")


@dataclass(frozen=True, kw_only=True)
class ReleaseIssue:
    """What is to be said of a release: ``key`` is its content digest, ``text`` Markdown, escaped already.

    ``closed`` says that there is nothing left to do.
    """

    key: str
    title: str
    text: str
    closed: bool

    @property
    def body(self) -> str:
        """The text behind the marker by which the issue is found again."""
        return f"<!-- phi-bot: release {self.key} -->\n{self.text}"


def connect(repository: str, environ: Mapping[str, str] = os.environ) -> "Issues":
    """Return the issues of a repository (owner/name). Asks GitHub nothing yet. Raises GithubError without a token."""
    opened, login = open_repository(repository, environ)
    return Issues(name=repository, repository=opened, login=login)


@dataclass(frozen=True, kw_only=True)
class Issues:
    """The issues that this bot has in one repository. ``login`` asks who it is, None where the token may not know."""

    name: str
    repository: "Repository" = field(repr=False)
    login: Callable[[], str | None] = field(repr=False)

    def put(self, wanted: Sequence[ReleaseIssue]) -> list[str]:
        """Make or update an issue for each release, and return their addresses. What is as it should be is left alone.

        Where two bots made an issue of the same release at the same moment, the first one is kept and the other closed.
        Raises GithubError.
        """
        if not wanted:
            return []
        with told(self.name):
            login = self.login()
            found = self._found(login)
            addresses = []
            for one in wanted:
                known = found.get(one.key) or self._create(one, login)
                addresses.append(self._settle(known, one).html_url)
            return addresses

    def _found(self, login: str | None) -> dict[str, list["Issue"]]:
        """Return the bot's issues, open and closed, by release, each with the first one first."""
        found: dict[str, list[Issue]] = {}
        try:
            listed = list(self.repository.get_issues(state="all", labels=[LABEL], sort="created", direction="desc"))
        except (AttributeError, KeyError, TypeError) as error:  # PyGithub takes what it gets for issues, unchecked
            raise no_issues(self.name) from error
        for issue in listed:
            marker = _MARKER.match(issue.body or "")
            if marker and "/pull/" not in issue.html_url and _is_ours(issue, login):
                found.setdefault(marker[1], []).insert(0, issue)
        return {key: sorted(issues, key=lambda issue: issue.number) for key, issues in found.items()}

    def _create(self, one: ReleaseIssue, login: str | None) -> list["Issue"]:
        """Make an issue, and return all of its release: another bot may have made one at the same moment."""
        from github.GithubException import GithubException
        from requests.exceptions import RequestException

        for left in reversed(range(TRIES)):
            try:
                made = self.repository.create_issue(one.title, body=one.body, labels=[LABEL])
            except (GithubException, RequestException) as error:
                wait = wait_before_another_try(error)
                if not left or wait is None:
                    raise
                time.sleep(wait)
                if there := self._found(login).get(one.key):  # the answer was lost, not the issue
                    return there
                continue
            if LABEL not in [label.name for label in made.labels]:
                made.edit(state="closed", state_reason="not_planned")
                raise GithubError(
                    f"the token may not put the label {LABEL} on issues of {self.name}, by which they are found again",
                    hint=f"Give it the right to write issues. #{made.number} was closed.",
                )
            there = self._found(login).get(one.key, [])
            return sorted({issue.number: issue for issue in (made, *there)}.values(), key=lambda issue: issue.number)
        raise AssertionError("the last try returns or raises")

    def _settle(self, known: Sequence["Issue"], one: ReleaseIssue) -> "Issue":
        """Make the first issue of a release say what it should, and close the others."""
        first, *others = known
        for other in others:
            if other.state == "open":
                text = f"<!-- phi-bot: release {one.key} -->\nThe same release as #{first.number}."
                other.edit(body=text, state="closed", state_reason="not_planned")
        changes: dict[str, Any] = {}
        if first.title != one.title:
            changes["title"] = one.title
        if (first.body or "").replace("\r\n", "\n") != one.body:
            changes["body"] = one.body
        if one.closed and first.state == "open":
            changes |= {"state": "closed", "state_reason": "completed"}
        elif not one.closed and first.state == "closed" and first.state_reason != "not_planned":
            changes |= {"state": "open", "state_reason": "reopened"}  # what a person gave up stays closed
        if changes:
            first.edit(**changes)
        return first


def _is_ours(issue: "Issue", login: str | None) -> bool:
    """Say whether the bot wrote an issue: a stranger could write the marker, and a template set the label."""
    user: NamedUser | None = issue.user  # an account can be deleted
    if user is None:
        return False
    return user.type == "Bot" if login is None else user.login == login
