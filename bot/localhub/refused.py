"""A request that the embedded Hub answers with an error, as the real one would."""

from http import HTTPStatus
from typing import Literal

ErrorCode = Literal["RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo"]


class RefusedError(Exception):
    """An answer of status 4xx or 5xx. The client tells cases apart by ``code`` (the header X-Error-Code)."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        code: ErrorCode | None = None,
        commit: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.commit = commit  # where the repo is: the client remembers that a file is missing at this commit
        self.headers = headers or {}
        self.url: str | None = None  # of a repo that exists already: the client reads it from the 409


def bad_request(message: str) -> RefusedError:
    """Return the answer to a request that no retry will make right."""
    return RefusedError(HTTPStatus.BAD_REQUEST, message)


def unprocessable(message: str) -> RefusedError:
    """Return the answer to a path that no file can have."""
    return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, message)


def not_found(what: ErrorCode, message: str, *, commit: str | None = None) -> RefusedError:
    """Return a 404 that the client turns into its own exception for ``what``."""
    return RefusedError(HTTPStatus.NOT_FOUND, message, code=what, commit=commit)


def forbidden(message: str) -> RefusedError:
    """Return the answer to a known caller who has no right."""
    return RefusedError(HTTPStatus.FORBIDDEN, message)


def conflict(message: str) -> RefusedError:
    """Return the answer to making what is there already."""
    return RefusedError(HTTPStatus.CONFLICT, message)
