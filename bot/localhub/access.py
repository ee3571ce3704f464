"""Who may see and change a repo. A repo that may not be seen answers like one that is not there."""

from collections.abc import Iterable
from http import HTTPStatus

from bot.localhub import gates
from bot.localhub.metadata import RepoView
from bot.localhub.names import REPO_TYPES
from bot.localhub.refused import RefusedError, forbidden, not_found
from bot.localhub.repo import LocalRepo
from bot.localhub.settings import Settings
from bot.localhub.tokens import Grant
from bot.localhub.web import Request, Response


def repo_type(plural: str) -> str:
    """Return ``model`` of ``models``."""
    if plural[:-1] not in REPO_TYPES or not plural.endswith("s"):
        raise RefusedError(HTTPStatus.NOT_FOUND, f"the embedded Hub keeps models and datasets, not {plural}")
    return plural[:-1]


def visible(request: Request, types: str, namespace: str, name: str) -> LocalRepo:
    """Return a repo that the caller may know of: its name, its card's head, its list of files.

    An address with its name in another case, or with a former one, leads to that with the name that it has.
    """
    repo = find_visible(request, types, namespace, name)
    if (repo.namespace, repo.name) != (namespace, name):
        raise RefusedError(
            HTTPStatus.TEMPORARY_REDIRECT,
            f"Temporary Redirect. Redirecting to {repo.path}",
            headers={"Location": _address_of(request, repo)},
        )
    return repo


def find_visible(request: Request, types: str, namespace: str, name: str) -> LocalRepo:
    """Return the repo that the caller may know of by a name, wherever that leads."""
    try:
        repo = request.hub.find(repo_type(types), namespace, name)
    except RefusedError as e:
        if e.status != HTTPStatus.BAD_REQUEST:
            raise
        repo = None
    if repo is not None and sees(request.grant, repo, repo.settings()):
        return repo
    raise unknown(request)


def refuse_bare_name(request: Request, types: str, **found: str) -> Response:  # noqa: ARG001
    """Refuse an id of one segment, as the first models of the real Hub have them: there is none here."""
    repo_type(types)
    raise unknown(request)


def unknown(request: Request) -> RefusedError:
    """Return the answer to a name of which the caller may not know, be there a repo or not."""
    if request.grant is None:  # as the real Hub: without a token, "not there" and "not yours" are the same
        message = "Repository not found, or private and no token was given"
        return RefusedError(HTTPStatus.UNAUTHORIZED, message, code="RepoNotFound")
    return not_found("RepoNotFound", "Repository not found")


def _address_of(request: Request, repo: LocalRepo) -> str:
    """Return the address of a request with a repo's own name in place of the one that led to it."""
    segments = request.path.split("/")
    at = {"api": 3, f"{repo.type}s": 2}.get(segments[1], 1)
    git = ".git" if segments[at + 1].endswith(".git") else ""  # no repo's name ends so
    segments[at : at + 2] = [repo.namespace, repo.name + git]
    return "/".join(segments) + (f"?{request.raw_query}" if request.raw_query else "")


def sees(grant: Grant | None, repo: LocalRepo, settings: Settings) -> bool:
    """Say whether a caller may know of a repo with such settings."""
    return not settings.private or (grant is not None and grant.may_read(repo.namespace, repo.path))


def readable(request: Request, types: str, namespace: str, name: str) -> LocalRepo:
    """Return a repo of which the caller may read the files."""
    repo = visible(request, types, namespace, name)
    settings, grant = repo.settings(), request.grant
    if settings.gated is None or (grant and grant.may_read(namespace, repo.path)):
        return repo
    if grant is None or not gates.passed(settings, grant.name):
        raise RefusedError(
            HTTPStatus.FORBIDDEN if grant else HTTPStatus.UNAUTHORIZED,
            _before_the_gate(request, repo, settings),
            code="GatedRepo",
        )
    return repo


def _before_the_gate(request: Request, repo: LocalRepo, settings: Settings) -> str:
    """Return what the real Hub says to those who may not pass."""
    what = f"{repo.type} {repo.id}"
    if request.grant is None:
        login = "You must have access to it and be authenticated to access it. Please log in."
        return f"Access to {what} is restricted. {login}"
    asked = gates.of_user(settings, request.grant.name)
    if asked is not None and asked.status == "pending":
        return f"Your request to access {what} is awaiting a review from the repo authors."
    if asked is not None and asked.status == "rejected":
        return f"Your request to access {what} has been rejected by the repo's authors."
    page = f"{request.base}/{repo.path}"
    return f"Access to {what} is restricted and you are not in the authorized list. Visit {page} to ask for access."


def writable(request: Request, types: str, namespace: str, name: str) -> LocalRepo:
    """Return a repo of which the caller may change the files."""
    repo = visible(request, types, namespace, name)
    writer_to(request, repo)
    return repo


def owned(request: Request, types: str, namespace: str, name: str) -> LocalRepo:
    """Return a repo of which the caller may change everything: who sees it, whom it trusts, whether it is there."""
    repo = visible(request, types, namespace, name)
    writer_of(request, repo.namespace)
    return repo


def owned_now(request: Request, types: str, namespace: str, name: str) -> LocalRepo:
    """Return a repo that the caller names in the body of a request, to change everything of it: by no former name."""
    repo = find_visible(request, types, namespace, name)
    if repo.id.lower() != f"{namespace}/{name}".lower():
        raise unknown(request)
    writer_of(request, repo.namespace)
    return repo


def listed(request: Request, kind: str) -> list[RepoView]:
    """Return the repos that the caller may know of, newest first.

    The parameters ``author`` and ``search`` narrow them.
    """
    words = (request.one("search") or "").lower().split()
    found = visible_to(request.grant, request.hub.index.all(kind, namespace=request.one("author")))
    return [s for s in found if all(w in s.repo.id.lower() for w in words)] if words else found


def visible_to(grant: Grant | None, repos: Iterable[RepoView]) -> list[RepoView]:
    """Return those of the repos that a caller may know of."""
    return [s for s in repos if sees(grant, s.repo, s.settings)]


def caller(request: Request) -> Grant:
    """Return who calls; a 401 when nobody says."""
    if request.grant is None:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
    return request.grant


def writer(request: Request) -> Grant:
    """Return who calls, with a token that may write somewhere."""
    grant = caller(request)
    if grant.scope != "write":
        raise forbidden(f"the token of {grant.name} may only read")
    return grant


def contributor(request: Request, repo: LocalRepo) -> Grant:
    """Return who calls, with a token that may open pull requests in a repo, and comment on them."""
    grant = writer(request)
    if not grant.may_propose(repo.namespace, repo.path):
        raise forbidden(f"this token is not for {repo.id}")
    return grant


def writer_to(request: Request, repo: LocalRepo) -> Grant:
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
