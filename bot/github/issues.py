"""An issue for every release, made once and then kept up to date."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.errors import GithubError
from bot.github.answers import Answer
from bot.github.bodies import cut_title, marked, marker_of, normalize_line_ends
from bot.github.client import Repository, open_repository

LABEL = "phi-bot"
_WHAT = "an issue"


@dataclass(frozen=True, kw_only=True)
class ReleaseIssue:
    """The issue of a release, or of another ``kind`` of thing: ``text`` is Markdown, escaped already.

    ``key`` is a release's content digest, and of anything else what tells it from others of its kind (lower-case
    letters, digits, ``.``, ``_`` and ``-``). ``closed`` says that there is nothing left to do.
    """

    key: str
    title: str
    text: str
    closed: bool
    kind: str = "release"

    @property
    def marker(self) -> str:
        """By what the issue is found again."""
        return f"{self.kind} {self.key}"

    @property
    def body(self) -> str:
        """The text behind the marker."""
        return marked(self.marker, self.text)


def connect(repository: str, environ: Mapping[str, str] = os.environ) -> "Issues":
    """Return the issues of a repository (owner/name). Asks GitHub nothing yet. Raises GithubError without a token."""
    return Issues(repository=open_repository(repository, environ))


@dataclass(frozen=True, kw_only=True)
class Issues:
    """The issues that this bot has in one repository."""

    repository: Repository

    def check(self) -> None:
        """Make sure that the repository is there for this token. Raises GithubError."""
        self.repository.get("", "anything")

    def put(self, wanted: Sequence[ReleaseIssue], *, over: tuple[str, str] | None = None) -> list[str]:
        """Make or update an issue for each release, and return their addresses. One that is up to date is left alone.

        Where two bots made an issue of the same release at the same moment, the first one is kept and the other closed.
        ``over`` is a kind whose issues are closed where they are not among ``wanted``, and the text that they then
        have. Raises GithubError.
        """
        if not wanted and over is None:
            return []
        found = self._found()
        if over is not None:
            self._close(found, {one.marker for one in wanted}, *over)
        addresses = []
        for one in wanted:
            known = found.get(one.marker) or self._create(one)
            addresses.append(self._settle(known, one)["html_url"].address())
        return addresses

    def _close(self, found: Mapping[str, Sequence[Answer]], kept: Collection[str], kind: str, text: str) -> None:
        for marker, issues in found.items():
            if marker.startswith(f"{kind} ") and marker not in kept:
                for issue in issues:
                    if issue["state"].text() == "open":
                        closed = {"state": "closed", "state_reason": "completed"}
                        self._edit(issue, {"body": marked(marker, text)} | closed)

    def _found(self) -> dict[str, list[Answer]]:
        """Return the bot's issues, open and closed, by marker, each with the first one first."""
        found: dict[str, list[Answer]] = {}
        for issue in self.repository.pages("/issues", _WHAT, state="all", labels=LABEL):
            body = issue.get("body")
            marker = marker_of(body.text()) if body is not None else None
            if marker and issue.get("pull_request") is None and self.repository.wrote(issue):
                found.setdefault(marker, []).append(issue)
        return {marker: sorted(issues, key=_number) for marker, issues in found.items()}

    def _create(self, one: ReleaseIssue) -> list[Answer]:
        """Make an issue, and return all of its release: another bot may have made one at the same moment."""
        body = {"title": cut_title(one.title), "body": one.body, "labels": [LABEL]}
        made = self.repository.post(
            "/issues", body, _WHAT, found=lambda: next(iter(self._found().get(one.marker, ())), None)
        )
        if LABEL not in [label["name"].text() for label in made["labels"]]:
            self._edit(made, {"state": "closed", "state_reason": "not_planned"})
            raise GithubError(
                f"the token may not put the label {LABEL} on issues of {self.repository.name}, by which they are found",
                hint=f"Give it the right to write issues. #{_number(made)} was closed.",
            )
        everyone = {_number(issue): issue for issue in (made, *self._found().get(one.marker, ()))}
        return [issue for _, issue in sorted(everyone.items())]

    def _settle(self, known: Sequence[Answer], one: ReleaseIssue) -> Answer:
        """Make the first issue of a release say what it should, and close the others."""
        first, *others = known
        for other in others:
            if other["state"].text() == "open":
                text = marked(one.marker, f"The same {one.kind} as #{_number(first)}.")
                self._edit(other, {"body": text, "state": "closed", "state_reason": "not_planned"})
        changes: dict[str, Any] = {}
        if first["title"].text() != cut_title(one.title):
            changes["title"] = cut_title(one.title)
        if normalize_line_ends(first["body"].text()) != one.body:
            changes["body"] = one.body
        reason = first.get("state_reason")
        if one.closed and first["state"].text() == "open":
            changes |= {"state": "closed", "state_reason": "completed"}
        elif (
            not one.closed
            and first["state"].text() == "closed"
            and (reason is None or reason.text() != "not_planned")  # what a person gave up stays closed
        ):
            changes |= {"state": "open", "state_reason": "reopened"}
        if changes:
            self._edit(first, changes)
        return first

    def _edit(self, issue: Answer, changes: Mapping[str, Any]) -> None:
        if self.repository.patch(f"/issues/{_number(issue)}", changes, _WHAT) is None:
            raise GithubError(f"issue #{_number(issue)} was deleted in between", hint="The next run makes another one.")


def _number(issue: Answer) -> int:
    return issue["number"].number()
