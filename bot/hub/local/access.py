"""Who may see and change a repo. A repo that may not be seen answers like one that is not there."""

from collections.abc import Iterable
from http import HTTPStatus

from bot.hub.local.metadata import Seen
from bot.hub.local.names import REPO_TYPES
from bot.hub.local.refused import RefusedError, forbidden, not_found
from bot.hub.local.repo import Repo, Settings
from bot.hub.local.tokens import Grant
from bot.hub.local.web import Request


def repo_type(plural: str) -> str:
    """Return ``model`` of ``models``."""
    if plural[:-1] not in REPO_TYPES or not plural.endswith("s"):
        raise RefusedError(HTTPStatus.NOT_FOUND, f"the embedded Hub keeps models and datasets, no {plural}")
    return plural[:-1]


def visible(request: Request, types: str, namespace: str, name: str) -> Repo:
    """Return a repo that the caller may know of: its name, its card's head, its list of files."""
    try:
        repo = request.hub.repo(repo_type(types), namespace, name)
    except RefusedError as e:
        if e.status != HTTPStatus.BAD_REQUEST:
            raise
        repo = None
    if repo is not None and sees(request.grant, repo, repo.settings()):
        return repo
    if request.grant is None:  # as the real Hub: without a token, "not there" and "not yours" are the same
        message = "Repository not found, or private and no token was given"
        raise RefusedError(HTTPStatus.UNAUTHORIZED, message, code="RepoNotFound")
    raise not_found("RepoNotFound", "Repository not found")


def sees(grant: Grant | None, repo: Repo, settings: Settings) -> bool:
    """Say whether a caller may know of a repo with such settings."""
    return not settings.private or (grant is not None and grant.may_read(repo.namespace, repo.path))


def readable(request: Request, types: str, namespace: str, name: str) -> Repo:
    """Return a repo of which the caller may read the files."""
    repo = visible(request, types, namespace, name)
    settings, grant = repo.settings(), request.grant
    if settings.gated and not (grant and (grant.may_read(namespace, repo.path) or grant.name in settings.access)):
        raise RefusedError(
            HTTPStatus.FORBIDDEN if grant else HTTPStatus.UNAUTHORIZED,
            f"Access to {repo.id} is restricted and you are not in the authorized list. Ask its owner for access.",
            code="GatedRepo",
        )
    return repo


def writable(request: Request, types: str, namespace: str, name: str) -> Repo:
    """Return a repo of which the caller may change the files."""
    repo = visible(request, types, namespace, name)
    writer_to(request, repo)
    return repo


def owned(request: Request, types: str, namespace: str, name: str) -> Repo:
    """Return a repo of which the caller may change everything: who sees it, whom it trusts, whether it is there."""
    repo = visible(request, types, namespace, name)
    writer_of(request, namespace)
    return repo


def listed(request: Request, kind: str) -> list[Seen]:
    """Return the repos that the caller may know of, newest first.

    The parameters ``author`` and ``search`` narrow them.
    """
    words = (request.one("search") or "").lower().split()
    found = known_to(request.grant, request.hub.index.all(kind, namespace=request.one("author")))
    return [s for s in found if all(w in s.repo.id.lower() for w in words)] if words else found


def known_to(grant: Grant | None, repos: Iterable[Seen]) -> list[Seen]:
    """Return those of the repos that a caller may know of."""
    return [s for s in repos if sees(grant, s.repo, s.settings)]


def known(request: Request) -> Grant:
    """Return who calls; a 401 when nobody says."""
    if request.grant is None:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
    return request.grant


def writer(request: Request) -> Grant:
    """Return who calls, with a token that may write somewhere."""
    grant = known(request)
    if grant.scope != "write":
        raise forbidden(f"the token of {grant.name} may only read")
    return grant


def contributor(request: Request, repo: Repo) -> Grant:
    """Return who calls, with a token that may open pull requests in a repo, and comment on them."""
    grant = writer(request)
    if not grant.may_propose(repo.namespace, repo.path):
        raise forbidden(f"this token is not for {repo.id}")
    return grant


def writer_to(request: Request, repo: Repo) -> Grant:
    """Return who calls, with a token that may change the files of a repo."""
    grant = writer(request)
    if not grant.may_change(repo.namespace, repo.path):
        raise forbidden(f"You don't have the rights to write in {repo.id}")
    return grant


def writer_of(request: Request, namespace: str) -> Grant:
    """Return who calls, with a token that may do everything in a namespace."""
    grant = writer(request)
    if not grant.may_write(namespace):
        raise forbidden(f"You don't have the rights to write in the namespace {namespace!r}")
    return grant
