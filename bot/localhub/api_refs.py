"""Branches, tags and the history that they name."""

import html
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from bot.localhub.access import owned, readable, visible, writable, writer
from bot.localhub.api_repos import iso_time
from bot.localhub.lists import page_of
from bot.localhub.names import title_of
from bot.localhub.objects import Commit
from bot.localhub.repo import MAIN, Ref, RefKind, unknown_revision
from bot.localhub.web import Request, Response, json_response, string


def list_refs(request: Request, **where: str) -> Response:
    """List branches and tags, and pull requests when asked."""
    repo = visible(request, **where)

    def listed(kind: RefKind, refs: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"name": n, "ref": Ref(kind=kind, name=n).full, "targetCommit": c} for n, c in refs.items()]

    found = {"branches": listed("heads", repo.refs("heads")), "tags": listed("tags", repo.refs("tags")), "converts": []}
    if request.flag("include_prs"):
        found["pullRequests"] = listed("pr", repo.refs("pr"))
    return json_response(found)


def create_branch(request: Request, branch: str, **where: str) -> Response:
    """Make a branch at a revision, or at the head of main."""
    repo = writable(request, **where)
    start = repo.resolve(string(request.json(), "startingPoint", MAIN.full))
    repo.create_ref(Ref(kind="heads", name=branch), start.id)
    return json_response({}, status=HTTPStatus.CREATED)


def delete_branch(request: Request, branch: str, **where: str) -> Response:
    """Delete a branch."""
    writable(request, **where).delete_ref(Ref(kind="heads", name=branch))
    return json_response({})


def create_tag(request: Request, revision: str, **where: str) -> Response:
    """Make a tag at a revision."""
    repo, wanted = writable(request, **where), request.json()
    repo.create_ref(Ref(kind="tags", name=string(wanted, "tag")), repo.resolve(revision).id)
    return json_response({}, status=HTTPStatus.CREATED)


def delete_tag(request: Request, revision: str, **where: str) -> Response:
    """Delete a tag."""
    writable(request, **where).delete_ref(Ref(kind="tags", name=revision))
    return json_response({})


def list_commits(request: Request, revision: str, **where: str) -> Response:
    """List the history of a revision, newest first."""
    repo = readable(request, **where)
    page, headers = page_of(request, list(repo.history(repo.resolve(revision))))
    formatted = "formatted" in request.query.get("expand[]", [])
    return json_response([_commit_json(c, formatted=formatted) for c in page], headers=headers)


def squash(request: Request, branch: str, **where: str) -> Response:
    """Make one commit of the whole history of a branch, or of a pull request, which cannot be merged any more."""
    repo, wanted, author = owned(request, **where), request.json(), writer(request).name
    with repo.changing():
        ref = repo.find_ref(branch)
        if ref is None or ref.kind == "tags":
            raise unknown_revision(branch)
        tree = repo.tree(repo.resolve(ref.full))
        title = title_of(string(wanted, "message", "Squash history"))
        repo.point(ref, repo.record(tree, parents=(), author=author, title=title, description="").id)
    return json_response({})


def _commit_json(commit: Commit, *, formatted: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": commit.id,
        "title": commit.title,
        "message": commit.description,
        "authors": [{"user": commit.author}],
        "date": iso_time(commit.date),
    }
    if formatted:
        found["formatted"] = {"title": html.escape(commit.title), "message": html.escape(commit.description)}
    return found
