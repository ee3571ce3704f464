"""Trusted Publishers: tokens that the Hub gives a GitHub workflow for one repo at a time, in place of a stored one.

GitHub signs who the workflow is, and the Hub trades that for a token that may write to one repo for an hour, if the
owner of the repo told it to trust that workflow. The tokens are kept in the memory of this process alone.
"""

import os
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bot.errors import HubRefusedError, PhiBotError, TokenError
from bot.hub.errors import hub_errors
from bot.hub.repo import RepoType
from bot.hub.retry import exactly_once
from bot.hub.session import renewing_api

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from bot.records.artifacts import Json

_EARLY = 300.0  # seconds before the end of a token at which another one is asked for
_REFUSED_FOR = 300.0  # seconds for which a refusal is believed, where the repo can be read without a token as well


@dataclass(frozen=True, kw_only=True)
class _Token:
    text: str = field(repr=False)
    until: float  # on the monotonic clock


class Publishers:
    """The tokens of this workflow for the repos of one Hub. Safe to use from several threads."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._apis: dict[str, HfApi] = {}
        self._refused: dict[str, float] = {}

    def check(self) -> None:
        """Make sure that GitHub says which workflow this is. Raises TokenError."""
        _identity(self._endpoint)

    def writing(self, repo_id: str, repo_type: RepoType) -> "HfApi":
        """Return a client that may change one repo; it renews its token by itself.

        Raises TokenError where this is not a workflow that the repo trusts.
        """
        resource = repo_id if repo_type == "model" else f"{repo_type}s/{repo_id}"
        self.token(resource)
        with self._lock:
            if resource not in self._apis:
                self._apis[resource] = renewing_api(self._endpoint, partial(self.token, resource))
            return self._apis[resource]

    def reading(self, repo_id: str, repo_type: RepoType) -> "HfApi | None":
        """Return the same client, or None where there is no token: then the repo is read as by anybody else."""
        resource = repo_id if repo_type == "model" else f"{repo_type}s/{repo_id}"
        if time.monotonic() < self._refused.get(resource, 0.0):
            return None
        try:
            return self.writing(repo_id, repo_type)
        except TokenError:
            self._refused[resource] = time.monotonic() + _REFUSED_FOR
            return None

    def token(self, resource: str) -> str:
        """Return a token for one repo that is good for some minutes at least."""
        with self._lock:
            held = self._tokens.get(resource)
            if held is None or time.monotonic() > held.until - _EARLY:
                held = self._tokens[resource] = _exchanged(self._endpoint, resource)
            return held.text


def _exchanged(endpoint: str, resource: str) -> _Token:
    from huggingface_hub import _oidc
    from huggingface_hub.errors import HfHubHTTPError

    begin = time.monotonic()
    subject = _identity(endpoint)
    with hub_errors(endpoint, resource):
        try:
            answer = exactly_once(
                lambda: _oidc.exchange_oidc_token(subject_token=subject, resource=resource, endpoint=endpoint),
                landed=lambda: None,  # a second token does no harm
            )
        except HfHubHTTPError as error:
            if error.response.status_code in (400, 401, 403, 404):
                raise _untrusted(endpoint, resource) from error
            raise
    text, seconds = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(text, str) or not text.isprintable() or not isinstance(seconds, int | float) or seconds <= 0:
        raise HubRefusedError(f"{endpoint} gave no token for {resource}", hint="Is it a Hugging Face Hub?")
    return _Token(text=text, until=begin + seconds)


def _identity(endpoint: str) -> str:
    """Return GitHub's word on which workflow this is, for this Hub alone.

    huggingface_hub asks for it too, but its way of adding the audience takes GitHub's own parameters off the address.
    """
    import httpx2
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.errors import HfHubHTTPError

    if os.environ.get("GITHUB_ACTIONS") != "true":
        raise TokenError(
            "publish.trusted_publishers is on, and this is not a workflow of GitHub Actions",
            hint="Run it there, or turn publish.trusted_publishers off and set HF_TOKEN.",
        )
    address = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL")
    token = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    if not address or not token:
        raise TokenError(
            "GitHub gives this job no identity, which publish.trusted_publishers needs",
            hint="Add `id-token: write` to the permissions of the job.",
        )
    try:
        url = httpx2.URL(address).copy_merge_params({"audience": endpoint})
        response = get_session().get(url, headers={"authorization": f"Bearer {token}"})
        hf_raise_for_status(response)
        found: Json = response.json()["value"]
    except HfHubHTTPError as error:
        raise _no_identity(f"status {error.response.status_code}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise _no_identity("its answer makes no sense") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, PhiBotError) as error:
        raise _no_identity(type(error).__name__) from error
    if not isinstance(found, str) or not found:
        raise _no_identity("its answer holds none")
    return found


def _no_identity(what: str) -> TokenError:
    return TokenError(f"GitHub did not say which workflow this is ({what})", hint="Run the job again in a few minutes.")


def _untrusted(endpoint: str, resource: str) -> TokenError:
    return TokenError(
        f"{endpoint} gives this workflow no token for {resource}: there is no such repo, or it trusts another workflow",
        hint="With Trusted Publishers every repo is made once, by hand, and told there which workflow may write to it: "
        "see docs/promotion.md.",
    )
