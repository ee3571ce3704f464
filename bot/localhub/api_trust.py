"""Trusted Publishers over HTTP: whom a repo trusts, and tokens for one repo in exchange for those of such a workflow.

The exchange is as the real Hub describes it (https://huggingface.co/docs/hub/trusted-publishers, RFC 8693). How
publishers are set is this Hub's own: the real one has a page for it.
"""

import logging
import time
from http import HTTPStatus

from bot.localhub.access import owned, repo_type
from bot.localhub.refused import RefusedError, bad_request
from bot.localhub.repo import LocalRepo
from bot.localhub.settings import Publisher, Settings
from bot.localhub.tokens import Grant
from bot.localhub.trust import UntrustedError, check_publisher, check_subject
from bot.localhub.web import Request, Response, json_response
from bot.records.artifacts import MalformedRecordError

log = logging.getLogger(__name__)

OIDC_USER = "[OIDC]"  # who commits; no account can be called so
_LIFETIME = 3600  # seconds
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
_SUBJECT_TYPE = "urn:ietf:params:oauth:token-type:id_token"
_ISSUED_TYPE = "urn:ietf:params:oauth:token-type:access_token"
_MOST = 20  # publishers of a repo


def list_publishers(request: Request, **where: str) -> Response:
    """List whom a repo trusts."""
    return json_response([p.to_json() for p in owned(request, **where).settings().publishers])


def set_publishers(request: Request, **where: str) -> Response:
    """Let a repo trust these publishers, and no others."""
    repo, wanted = owned(request, **where), request.json().get("publishers")
    if not isinstance(wanted, list) or len(wanted) > _MOST:
        raise bad_request(f"'publishers' is missing, or is not a list of at most {_MOST}")
    try:
        found = [check_publisher(Publisher.from_json(p)) for p in wanted]
    except MalformedRecordError as error:
        raise bad_request(f"'publishers': {error}") from None
    told = [p.to_json() for p in found]
    repo.change_settings(lambda old: Settings.from_json(old.to_json() | {"publishers": told}))
    return json_response(told)


def exchange(request: Request) -> Response:
    """Trade a workflow's token for one that may read and write one repo for an hour."""
    wanted = request.json()
    token, resource = wanted.get("subject_token"), wanted.get("resource")
    kinds = (wanted.get("grant_type"), wanted.get("subject_token_type"))
    if kinds != (_GRANT_TYPE, _SUBJECT_TYPE) or not isinstance(token, str) or not isinstance(resource, str):
        return _refusal("invalid_request", "a parameter is missing, or has another value than it can have")
    try:
        repo = _named(request, resource)
        subject = check_subject(token, repo.settings().publishers, audience=request.base)
    except RefusedError:
        return _refusal("invalid_request", "'resource' is not a repo")
    except UntrustedError as error:
        log.warning("no token for %a: %s", resource, error)
        return _refusal("invalid_grant", "the token does not give access to this resource")
    log.info("a token for %s, to %a", repo.path, subject)
    until = int(time.time()) + _LIFETIME
    grant = Grant(name=OIDC_USER, scope="write", namespaces=(repo.path,), until=until)
    issued = {"token_type": "bearer", "expires_in": _LIFETIME, "issued_token_type": _ISSUED_TYPE}
    return json_response(
        {"access_token": request.hub.tokens.make_for(grant), **issued}, headers={"Cache-Control": "no-store"}
    )


def _named(request: Request, resource: str) -> LocalRepo:
    """Return the repo that a resource names. Raises RefusedError for a malformed one, UntrustedError for none."""
    *kind, namespace, name = resource.split("/") if resource.count("/") in (1, 2) else ("", "", "")
    if kind not in ([], ["datasets"]):
        raise bad_request("no repo")
    found = request.hub.find(repo_type(kind[0] if kind else "models"), namespace, name)
    if found is None:
        raise UntrustedError("there is no such repo")
    return found


def _refusal(error: str, description: str) -> Response:
    return json_response({"error": error, "error_description": description}, status=HTTPStatus.BAD_REQUEST)
