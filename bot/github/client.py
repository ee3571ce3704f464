"""The connection to a repository on GitHub: whose token it is, what is tried again, and what goes wrong.

Requests go through PyGithub's requester, which signs them, spaces writes out and holds the connection. Its objects are
not used: they take answers unchecked, and follow whatever addresses stand in them.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from bot.errors import GithubError
from bot.github.answers import HINT, LOGIN, REPOSITORY, Answer
from bot.github.refusals import UnsuccessfulAnswer, as_error, wait_before_another_try

if TYPE_CHECKING:
    from github.Requester import Requester

_API = "https://api.github.com"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TIMEOUT = 30  # seconds without a byte
_TRIES = 3
_PAUSE = 1.0  # seconds between writes: faster ones are what the secondary limit is for
_PER_PAGE = 100
_MOST_PAGES = 100  # of a listing: 10,000 comments or events are nobody's pull request


def open_repository(name: str, environ: Mapping[str, str] = os.environ) -> "Repository":
    """Return a repository (owner/name). Asks GitHub nothing yet.

    The token is GITHUB_TOKEN's, the server GITHUB_API_URL's, so that GitHub Enterprise works too. Raises GithubError
    without a token, or where it would travel in the clear.
    """
    import github

    if not REPOSITORY.fullmatch(name):
        raise GithubError(f"{name[:200]!r} names no repository", hint="A repository is named OWNER/NAME.")
    token = environ.get("GITHUB_TOKEN", "").strip()
    if not token:
        raise GithubError(f"no token for {name}", hint="Set GITHUB_TOKEN: issues: write, or pull-requests: write.")
    if not (token.isascii() and token.isprintable()):
        raise GithubError("GITHUB_TOKEN is not a token: it holds more than printable ASCII", hint="Copy it again.")
    client = github.Github(
        auth=github.Auth.Token(token),
        base_url=_checked_api(environ.get("GITHUB_API_URL") or _API),
        timeout=_TIMEOUT,
        retry=None,  # Repository._ask does: it knows what can be asked twice
        seconds_between_requests=0,
        seconds_between_writes=_PAUSE,
    )
    return Repository(name=name, requester=client.requester, token=token)


def _checked_api(address: str) -> str:
    """Return the address of an API that a token may be sent to."""
    try:
        parts = urlsplit(address)
        fine = bool(parts.hostname) and "@" not in parts.netloc and not parts.query and not parts.fragment
        fine = fine and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise GithubError("GITHUB_API_URL is not the https address of an API", hint=f"GitHub's own is {_API}.")
    return address.rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository on GitHub, as one token sees it. Paths begin below ``/repos/OWNER/NAME``.

    All functions raise GithubError: for what GitHub refuses, and for answers that are none of GitHub's.
    """

    name: str
    requester: "Requester" = field(repr=False)
    token: str = field(repr=False)

    @cached_property
    def account(self) -> str:
        """The login whose token this is, ``NAME[bot]`` for one of an app.

        It is asked by GraphQL: the REST API tells an app's token, as GitHub Actions has, nothing about itself.
        """
        query = {"query": "query { viewer { login } }"}
        what = "the token's account"
        _, value = self._ask("POST", self.requester.graphql_url, what, body=query)
        return Answer(what=what, value=value)["data"]["viewer"]["login"].text(LOGIN)

    def wrote(self, answer: Answer) -> bool:
        """Say whether this account wrote an issue or comment: a stranger could write the bot's marker too."""
        author = answer.get("user")  # an account can be deleted
        return author is not None and author["login"].text() == self.account

    def get(self, path: str, what: str) -> Answer:
        """Return what is there; ``what`` names it for people."""
        return Answer(what=what, value=self._ask("GET", self._below(path), what)[1])

    def pages(self, path: str, what: str, **query: str) -> Iterator[Answer]:
        """Return the items of a listing, from all of its pages."""
        first: dict[str, str] = {**query, "per_page": str(_PER_PAGE)}
        following: dict[str, str] | None = first
        seen = []
        for _ in range(_MOST_PAGES):
            seen.append(following)
            headers, value = self._ask("GET", self._below(path), what, query=following)
            yield from Answer(what=what, value=value)
            following = self._next(headers.get("link", ""))
            if following is None:
                return
            following = first | following
            if following in seen:
                break
        raise GithubError(f"GitHub's listing of {what} does not end", hint=HINT)

    def post(self, path: str, body: Mapping[str, Any], what: str, *, found: Callable[[], Answer | None]) -> Answer:
        """Make something. Before another try, ``found`` looks for what one has made whose answer was lost."""
        return Answer(what=what, value=self._ask("POST", self._below(path), what, body=body, found=found)[1])

    def patch(self, path: str, body: Mapping[str, Any], what: str) -> Answer | None:
        """Change something, and return how it is then; None where it is gone."""
        return self._unless_gone("PATCH", path, what, body)

    def find(self, path: str, what: str) -> Answer | None:
        """Return what is there, None where nothing is."""
        return self._unless_gone("GET", path, what)

    def delete(self, path: str, what: str) -> None:
        """Take something away, if it is still there."""
        self._unless_gone("DELETE", path, what)

    def _unless_gone(self, method: str, path: str, what: str, body: Mapping[str, Any] | None = None) -> Answer | None:
        address = self._below(path)  # if the repository is gone, that is another matter
        try:
            return Answer(what=what, value=self._ask(method, address, what, body=body)[1])
        except GithubError as error:
            if isinstance(error.__cause__, UnsuccessfulAnswer) and error.__cause__.status == 404:
                return None
            raise

    def _below(self, path: str) -> str:
        return f"/repos/{self._confirmed_name}{path}"

    @cached_property
    def _confirmed_name(self) -> str:
        """The name, which GitHub uses too.

        A renamed repository redirects, and PyGithub follows without the query: a listing would be another one.
        """
        _, value = self._ask("GET", f"/repos/{self.name}", "anything")
        current = Answer(what="a repository", value=value)["full_name"].text(REPOSITORY)
        if current.casefold() != self.name.casefold():
            raise GithubError(f"{self.name} is called {current} now", hint="Use the new name.")
        return current

    def _next(self, links: str) -> dict[str, str] | None:
        """Return the query of the next page, None on the last. Nothing else of an address that GitHub gives is used."""
        from requests.utils import parse_header_links

        found = [link["url"] for link in parse_header_links(links) if link.get("rel") == "next"] if links else []
        if not found:
            return None
        api = urlsplit(self.requester.base_url)
        try:
            parts = urlsplit(found[0])
        except ValueError as error:
            raise GithubError("GitHub's next page has no address", hint=HINT) from error
        if (parts.scheme, parts.netloc) != (api.scheme, api.netloc):
            raise GithubError("GitHub's next page is on another host", hint=HINT)
        return dict(parse_qsl(parts.query))

    def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        found: Callable[[], Answer | None] | None = None,
    ) -> tuple[dict[str, str], object]:
        """Return the headers (lower case) and the value of an answer. Requests that can be repeated are tried again."""
        from requests.exceptions import RequestException

        for left in reversed(range(_TRIES)):
            try:
                return self._ask_once(method, path, query, body)
            except (UnsuccessfulAnswer, RequestException) as error:
                wait = wait_before_another_try(error)
                if not left or wait is None:
                    raise as_error(error, what=what, repository=self.name, token=self.token) from error
            except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
                # PyGithub takes headers on trust, and gives up on redirects to another host with a RuntimeError.
                raise GithubError(f"GitHub's answer cannot be read ({type(error).__name__})", hint=HINT) from error
            time.sleep(wait)
            if found is not None and (there := found()) is not None:
                return {}, there.value
        raise AssertionError("the last try returns or raises")

    def _ask_once(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> tuple[dict[str, str], object]:
        status, headers, content = self.requester.requestJson(
            method, path, parameters=dict(query or {}), input=None if body is None else dict(body)
        )
        if not 200 <= status < 300:
            raise UnsuccessfulAnswer(status=status, headers=headers, content=content)
        return headers, json.loads(content, parse_constant=_no_number) if content else None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")
