"""GitHub's refusals: whether it is worth waiting, and what a person can do about them."""

import json
import re
import time
from collections.abc import Mapping

from bot.errors import GithubError

_LONGEST_WAIT = 60.0  # seconds: no issue or comment is worth more of a runner's time
_PERMISSIONS = re.compile(r"[a-z_]+=[a-z]+([,;] ?[a-z_]+=[a-z]+)*")


class UnsuccessfulAnswer(Exception):  # noqa: N818 - on the way to a GithubError
    """An answer of another status than success. ``headers`` are in lower case, ``content`` is of any kind."""

    def __init__(self, *, status: int, headers: Mapping[str, str], content: str) -> None:
        self.status = status
        self.headers = headers
        self.said = _message(content)
        super().__init__(status)

    @property
    def limited(self) -> bool:
        """True if one of GitHub's limits is used up, and no right missing."""
        from github.Requester import Requester

        if self.status == 429:
            return True
        return self.status == 403 and ("retry-after" in self.headers or Requester.isRateLimitError(self.said))


def wait_before_another_try(error: Exception) -> float | None:
    """Return the seconds after which it is worth trying again, None where it is not."""
    if not isinstance(error, UnsuccessfulAnswer):
        return 1.0  # the connection broke
    if error.limited:
        wait = _seconds(error.headers, default=_LONGEST_WAIT)
    elif error.status >= 500:
        wait = _seconds(error.headers, default=1.0)
    else:
        return None
    return wait if wait <= _LONGEST_WAIT else None


def is_refusal(error: GithubError) -> bool:
    """Say whether a token is missing, or it is refused for good: another try will not help."""
    cause = error.__cause__
    return cause is None or (
        isinstance(cause, UnsuccessfulAnswer) and not cause.limited and cause.status in (401, 403, 404)
    )


def as_error(error: Exception, *, what: str, repository: str, token: str) -> GithubError:
    """Return the error of ours for one of a connection or a refusal. The token is in none."""
    again = "Try again later."
    if not isinstance(error, UnsuccessfulAnswer):
        return GithubError(f"GitHub does not answer ({type(error).__name__})", hint=again)
    if error.limited:
        return GithubError("GitHub's rate limit is used up", hint=again)
    if error.status < 400:
        return GithubError(
            f"GitHub redirects elsewhere ({error.status})", hint=f"Is {repository} its name, and GITHUB_API_URL right?"
        )
    needed = error.headers.get("x-accepted-github-permissions", "")
    if _PERMISSIONS.fullmatch(needed):
        permission = f"GITHUB_TOKEN needs the permission {needed.replace('=', ': ').replace('_', '-')}."
    else:
        permission = "GITHUB_TOKEN needs the permission issues: write, or pull-requests: write for pull requests."
    hint = {
        401: "GITHUB_TOKEN is wrong or has expired.",
        403: permission,
        404: f"Is there {what} in {repository}, and may GITHUB_TOKEN see it?",
        410: f"Turn issues on in the settings of {repository}.",
    }.get(error.status, again)
    said = error.said.replace(token, "***")[:300] or "no reason given"
    return GithubError(f"GitHub refused {what} in {repository} ({error.status}: {said})", hint=hint)


def _message(content: str) -> str:
    """Return what the server says in words, "" where it does not in GitHub's way."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) else ""


def _seconds(headers: Mapping[str, str], *, default: float) -> float:
    """Return how long the server asks to wait."""
    after, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset", "")
    if _is_whole(after):
        return float(after)
    if headers.get("x-ratelimit-remaining") == "0" and _is_whole(reset):
        return max(0.0, float(reset) - time.time()) + 1
    return default


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,15}", text) is not None
