"""The connection to GitHub: whose token it is, how long is waited, and errors of ours for what goes wrong."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bot.errors import GithubError

if TYPE_CHECKING:
    from github.GithubException import GithubException
    from github.Repository import Repository

TRIES = 3
_API = "https://api.github.com"
_TIMEOUT = 30  # seconds without a byte
_LONGEST_WAIT = 60.0  # seconds: an announcement is not worth more of a runner's time


def run_address(environ: Mapping[str, str]) -> str:
    """Return the address of the run of GitHub Actions that this is, or ""."""
    server, repository, run = (environ.get(f"GITHUB_{k}", "") for k in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""


def open_repository(
    name: str, environ: Mapping[str, str] = os.environ
) -> "tuple[Repository, Callable[[], str | None]]":
    """Return a repository (owner/name) and what tells whose token it is. Asks GitHub nothing yet.

    The token is GITHUB_TOKEN's, the server GITHUB_API_URL's, so that GitHub Enterprise works too. Raises GithubError
    without a token.
    """
    import github
    from github.GithubRetry import GithubRetry

    token = environ.get("GITHUB_TOKEN")
    if not token:
        raise GithubError(f"no token to write to {name} with", hint="Set GITHUB_TOKEN, with issues: write.")
    # Making an issue is not tried again here: where the answer was lost, the issue may be there (see _create).
    retry = GithubRetry(
        total=TRIES,
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
    return client.get_repo(name), lambda: _login(client)


def _login(client: Any) -> str | None:
    """Return whose token it is; None for one of an app, as GitHub Actions has."""
    from github.GithubException import GithubException

    try:
        return str(client.get_user().login)
    except GithubException as error:
        if error.status in (403, 404):
            return None
        raise


def wait_before_another_try(error: Exception) -> float | None:
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
def told(repository: str) -> Iterator[None]:
    """Turn what PyGithub and its connection raise into an error of ours."""
    from github.GithubException import BadAttributeException, GithubException, IncompletableObject
    from requests.exceptions import RequestException

    try:
        yield
    except GithubException as error:
        raise _ours(error, repository) from error
    except (BadAttributeException, IncompletableObject) as error:
        raise no_issues(repository) from error
    except RequestException as error:
        raise GithubError(
            f"GitHub does not answer ({type(error).__name__})", hint="Run `phi-bot announce` again later."
        ) from error


def no_issues(repository: str) -> GithubError:
    """Return the error for an answer that has another shape."""
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
