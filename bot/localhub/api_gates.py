"""The gate of a repo over HTTP. Users ask for access on a page of the real Hub; here its owner lets them in."""

from http import HTTPStatus
from typing import Any

from bot.localhub import gates
from bot.localhub.access import owned
from bot.localhub.api_repos import iso_time
from bot.localhub.lists import paged
from bot.localhub.refused import RefusedError, bad_request
from bot.localhub.repo import LocalRepo
from bot.localhub.settings import AccessRequest, AccessStatus, Settings
from bot.localhub.web import Request, Response, json_response, string

_STATUSES: tuple[AccessStatus, ...] = ("accepted", "pending", "rejected")
_LONGEST = 200  # characters of a reason, as on the real Hub


def list_requests(request: Request, status: str, **where: str) -> Response:
    """List the requests of one status, newest first."""
    settings = _gated(owned(request, **where)).settings()
    if status not in _STATUSES:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"requests are {', '.join(_STATUSES)}")
    found = sorted(gates.requests_of(settings), key=lambda r: -r.changed)
    return paged(request, [_json(r) for r in found if r.status == status])


def handle(request: Request, **where: str) -> Response:
    """Accept a request, reject it, or let it wait again."""
    repo, wanted = _gated(owned(request, **where)), request.json()
    status = next((s for s in _STATUSES if s == wanted.get("status")), None)
    if status is None:
        raise bad_request(f"'status' is one of {', '.join(_STATUSES)}")
    reason = string(wanted, "rejectionReason") if wanted.get("rejectionReason") is not None else None
    if reason is not None and (status != "rejected" or len(reason) > _LONGEST):
        raise bad_request(f"a reason, of at most {_LONGEST} characters, is for rejecting")
    key = "user" if wanted.get("user") is not None else "requestId"
    who = string(wanted, key)

    def change(old: Settings) -> Settings:
        named = (r for r in gates.requests_of(old) if (r.user.lower() if key == "user" else r.id) == who.lower())
        found = next(named, None)
        if found is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"{who!r} did not ask for access to {repo.id}")
        if found.status == status:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"the request of {found.user} is {status} already")
        return gates.decided(old, found.user, status, reason=reason)

    repo.change_settings(change)
    return json_response({})


def grant(request: Request, **where: str) -> Response:
    """Let a user pass who did not ask."""
    repo, user = _gated(owned(request, **where)), string(request.json(), "user")

    def change(old: Settings) -> Settings:
        if gates.passed(old, user):
            raise bad_request(f"{user} has access already")
        return gates.decided(old, user, "accepted")

    repo.change_settings(change)
    return json_response({})


def _gated(repo: LocalRepo) -> LocalRepo:
    if repo.settings().gated is None:
        raise bad_request(f"{repo.id} is not gated")
    return repo


def _json(found: AccessRequest) -> dict[str, Any]:
    told: dict[str, Any] = {
        "requestId": found.id,
        "status": found.status,
        "timestamp": iso_time(found.changed),
        "user": {"user": found.user, "fullname": found.user},
    }
    if found.reason is not None:
        told["rejectionReason"] = found.reason
    return told
