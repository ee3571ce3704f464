"""GitHub: an issue for every release, made once and then kept up to date. Only this module imports PyGithub."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from bot.errors import GithubError

if TYPE_CHECKING:
    from github.GithubException import GithubException
    from github.Issue import Issue
    from github.NamedUser import NamedUser
    from github.Repository import Repository

T = TypeVar("T")

LABEL = "phi-bot"
_API = "https://api.github.com"
_MARKER = re.compile(r"\A<!-- phi-bot: release ([0-9a-f]{64}) -->")
_TIMEOUT = 30  # seconds without a byte
_LONGEST_WAIT = 60.0  # seconds: an announcement is not worth more of a runner's time
_TRIES = 3


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


def run_address(environ: Mapping[str, str]) -> str:
    """Return the address of the run of GitHub Actions that this is, or ""."""
    server, repository, run = (environ.get(f"GITHUB_{k}", "") for k in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""


def connect(repository: str, environ: Mapping[str, str] = os.environ) -> "Issues":
    """Return the issues of a repository (owner/name). Asks GitHub nothing yet.

    The token is GITHUB_TOKEN's, the server GITHUB_API_URL's, so that GitHub Enterprise works too. Raises GithubError
    without a token.
    """
    import github
    from github.GithubRetry import GithubRetry

    token = environ.get("GITHUB_TOKEN")
    if not token:
        raise GithubError(f"no token to write to {repository} with", hint="Set GITHUB_TOKEN, with issues: write.")
    # Making an issue is not tried again here: where the answer was lost, the issue may be there (see _create).
    retry = GithubRetry(
        total=_TRIES,
        backoff_factor=0.5,
        allowed_methods={"GET", "PATCH"},
        status_forcelist=[429, *range(500, 600)],
        max_rate_limit_wait=_LONGEST_WAIT,
        retry_after_max=int(_LONGEST_WAIT),
    )
    client = github.Github(
        auth=github.Auth.Token(token),
        base_url=(environ.get("GITHUB_API_URL") or _API).rstrip("/"),
        timeout=_TIMEOUT,
        per_page=100,
        retry=retry,
        seconds_between_requests=0.1,
        seconds_between_writes=1.0,
        lazy=True,
    )
    return Issues(name=repository, repository=client.get_repo(repository), login=lambda: _login(client))


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
        with _told(self.name):
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
            raise _no_issues(self.name) from error
        for issue in listed:
            marker = _MARKER.match(issue.body or "")
            if marker and "/pull/" not in issue.html_url and _is_ours(issue, login):
                found.setdefault(marker[1], []).insert(0, issue)
        return {key: sorted(issues, key=lambda issue: issue.number) for key, issues in found.items()}

    def _create(self, one: ReleaseIssue, login: str | None) -> list["Issue"]:
        """Make an issue, and return all of its release: another bot may have made one at the same moment."""
        from github.GithubException import GithubException
        from requests.exceptions import RequestException

        for left in reversed(range(_TRIES)):
            try:
                made = self.repository.create_issue(one.title, body=one.body, labels=[LABEL])
            except (GithubException, RequestException) as error:
                wait = _wait(error)
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


def _login(client: Any) -> str | None:
    """Return whose token it is; None for one of an app, as GitHub Actions has."""
    from github.GithubException import GithubException

    try:
        return str(client.get_user().login)
    except GithubException as error:
        if error.status in (403, 404):
            return None
        raise


def _is_ours(issue: "Issue", login: str | None) -> bool:
    """Say whether the bot wrote an issue: a stranger could write the marker, and a template set the label."""
    user: NamedUser | None = issue.user  # an account can be deleted
    if user is None:
        return False
    return user.type == "Bot" if login is None else user.login == login


def _wait(error: Exception) -> float | None:
    """Return the seconds after which it is worth trying again, None where it is not."""
    from github.GithubException import GithubException, RateLimitExceededException

    if not isinstance(error, GithubException):
        return 1.0  # the connection broke
    if isinstance(error, RateLimitExceededException) or error.status == 429:
        wait = _seconds(error.headers, default=60.0)
        return wait if wait <= _LONGEST_WAIT else None
    return 1.0 if error.status >= 500 else None


def _seconds(headers: Mapping[str, str] | None, *, default: float) -> float:
    """Return how long the server asks to wait."""
    given = {k.lower(): v for k, v in (headers or {}).items()}
    if given.get("retry-after", "").isdigit():
        return float(given["retry-after"])
    if given.get("x-ratelimit-remaining") == "0" and given.get("x-ratelimit-reset", "").isdigit():
        return max(0.0, float(given["x-ratelimit-reset"]) - time.time()) + 1
    return default


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """Turn what PyGithub and its connection raise into an error of ours."""
    from github.GithubException import BadAttributeException, GithubException, IncompletableObject
    from requests.exceptions import RequestException

    try:
        yield
    except GithubException as error:
        raise _ours(error, repository) from error
    except (BadAttributeException, IncompletableObject) as error:
        raise _no_issues(repository) from error
    except RequestException as error:
        raise GithubError(
            f"GitHub does not answer ({type(error).__name__})", hint="Run `phi-bot announce` again later."
        ) from error


def _no_issues(repository: str) -> GithubError:
    return GithubError(
        f"GitHub answered something else than issues of {repository}",
        hint="Is GITHUB_API_URL the address of GitHub's API?",
    )


def _ours(error: "GithubException", repository: str) -> GithubError:
    from github.GithubException import RateLimitExceededException

    said = error.data.get("message") if isinstance(error.data, dict) else None
    if isinstance(error, RateLimitExceededException) or error.status == 429:
        return GithubError("GitHub's rate limit is used up", hint="Run `phi-bot announce` again later.")
    hint = {
        401: "GITHUB_TOKEN is wrong or has expired.",
        403: "GITHUB_TOKEN needs the permission issues: write.",
        404: f"Is there a repository {repository}, and may GITHUB_TOKEN see it?",
        410: f"Turn issues on in the settings of {repository}.",
    }.get(error.status, "Run `phi-bot announce` again later.")
    why = f"{error.status}: {said or 'no reason given'}"
    return GithubError(f"GitHub refused an issue in {repository} ({why})", hint=hint)
