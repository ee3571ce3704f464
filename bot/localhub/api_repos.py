"""Repos: making, deleting, settings, finding, and what is known of each."""

from collections.abc import Hashable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from bot.localhub import access, front_matter
from bot.localhub.access import owned, owned_now, readable, repo_type, visible, writable, writer, writer_of
from bot.localhub.api_webhooks import tell_of_creation
from bot.localhub.lists import page_of
from bot.localhub.metadata import Metadata, RepoView, view
from bot.localhub.objects import File, lfs_pointer
from bot.localhub.refused import RefusedError, bad_request
from bot.localhub.repo import MAIN
from bot.localhub.settings import Settings
from bot.localhub.tokens import Grant
from bot.localhub.web import Request, Response, json_response, string

_LISTED = ("createdAt", "downloads", "library_name", "likes", "pipeline_tag", "private", "tags")
_LISTED_IN_FULL = (*_LISTED, "author", "gated", "lastModified", "sha", "siblings")
_SHOWN = (*_LISTED_IN_FULL, "cardData", "config", "disabled", "safetensors", "usedStorage")
_FILTERS = {"author", "search", "filter", "gated", "pipeline_tag", "library"}
_OTHERS = {"limit", "cursor", "sort", "full", "cardData", "config", "expand", "expand[]"}
_SORTS = {"createdAt", "downloads", "lastModified", "likes", "trendingScore"}


def whoami(request: Request) -> Response:
    """Say whose token this is."""
    grant = access.caller(request)
    namespaces = [n for n in grant.namespaces if n != grant.name and "/" not in n]
    return json_response(
        {
            "type": "user",
            "id": grant.name,
            "name": grant.name,
            "fullname": grant.name,
            "isPro": False,
            "orgs": [{"type": "org", "name": n, "fullname": n, "roleInOrg": grant.scope} for n in namespaces],
            "auth": {"type": "access_token", "accessToken": {"displayName": grant.name, **_role(grant)}},
        }
    )


def _role(grant: Grant) -> dict[str, Any]:
    """Return what a token may do, as the real Hub describes it: one for single repos is fine-grained there."""
    if not grant.is_for_repos or grant.scope == "read":
        return {"role": grant.scope}
    scoped = [
        {
            "entity": {"type": _entity(place), "name": place.removeprefix("datasets/")},
            "permissions": ["repo.content.read", "repo.write"],
        }
        for place in grant.namespaces
    ]
    return {"role": "fineGrained", "fineGrained": {"canReadGatedRepos": False, "global": [], "scoped": scoped}}


def _entity(place: str) -> str:
    if place.startswith("datasets/"):
        return "dataset"
    return "model" if "/" in place else "org"


def validate_yaml(request: Request) -> Response:
    """Check the head of a card."""
    verdict = front_matter.judge(string(request.json(), "content"))
    status = HTTPStatus.BAD_REQUEST if verdict.errors else HTTPStatus.OK
    if request.headers.get("accept", "").startswith("text/plain"):  # what the client shows to a person
        lines = [f"- Error: {m}" for m in verdict.errors] + [f"- Warning: {m}" for m in verdict.warnings]
        body = "\n".join(lines).encode()
        return Response(status=status, headers={"Content-Type": "text/plain; charset=utf-8"}, body=body)
    return json_response(
        {
            "errors": [{"message": m} for m in verdict.errors],
            "warnings": [{"message": m} for m in verdict.warnings],
        },
        status=status,
    )


def create_repo(request: Request) -> Response:
    """Make a repo."""
    wanted = request.json()
    grant = writer(request)
    namespace = grant.spelled(_namespace(wanted, grant))
    kind = repo_type(string(wanted, "type", "model") + "s")
    name = string(wanted, "name")
    writer_of(request, namespace)
    private = string(wanted, "visibility", "public") == "private" or wanted.get("private") is True
    try:
        repo = request.hub.create_repo(kind, namespace, name, private=private, author=grant.name)
    except RefusedError as e:
        if e.status == HTTPStatus.CONFLICT and (there := request.hub.in_any_case(kind, namespace, name)):
            e.url = f"{request.base}/{there.path}"
        raise
    tell_of_creation(request, repo, private=private)
    return json_response({"url": f"{request.base}/{repo.path}", "name": repo.id, "id": repo.id})


def delete_repo(request: Request) -> Response:
    """Delete a repo."""
    wanted = request.json()
    namespace = _namespace(wanted, writer(request))
    types = string(wanted, "type", "model") + "s"
    request.hub.delete_repo(owned_now(request, types, namespace, string(wanted, "name")))
    request.automation.garbage.wake()
    return Response()


def move_repo(request: Request) -> Response:
    """Give a repo another name."""
    wanted = request.json()
    grant, types = writer(request), string(wanted, "type", "model") + "s"
    repo = owned_now(request, types, *_id(wanted, "fromRepo"))
    namespace, name = _id(wanted, "toRepo")
    namespace = grant.spelled(namespace)
    writer_of(request, namespace)
    moved = request.hub.move_repo(repo, namespace, name)
    return json_response({"url": f"{request.base}/{moved.path}", "name": moved.id, "id": moved.id})


def change_settings(request: Request, **where: str) -> Response:
    """Change who may see and read a repo."""
    repo, wanted = owned(request, **where), request.json()

    def change(old: Settings) -> Settings:
        new = {
            "private": {"private": True, "public": False}.get(string(wanted, "visibility", ""), old.private),
            "gated": (wanted["gated"] or None) if "gated" in wanted else old.gated,
        }
        if new["gated"] not in (None, "auto", "manual"):
            raise bad_request("'gated' is one of false, auto, manual")
        return Settings.from_json(old.to_json() | new)

    repo.change_settings(change)
    return json_response({})


def auth_check(request: Request, **where: str) -> Response:
    """Say whether the caller may read the files of a repo."""
    readable(request, **where)
    return json_response({})


def auth_check_write(request: Request, **where: str) -> Response:
    """Say whether the caller may change a repo."""
    writable(request, **where)
    return json_response({})


def list_repos(request: Request, types: str) -> Response:
    """List the repos that the caller may see."""
    kind = repo_type(types)
    if unknown := set(request.query) - _FILTERS - _OTHERS:
        raise bad_request(f"the embedded Hub cannot filter by {', '.join(sorted(unknown))}")
    order = request.one("sort") or "lastModified"
    if order not in _SORTS:
        raise bad_request(f"'sort' is one of {', '.join(sorted(_SORTS))}")

    def find() -> list[RepoView]:
        found = [s for s in access.listed(request, kind) if _fits(request, s)]
        if order == "createdAt":  # likes and trends are not counted here: equal everywhere
            found.sort(key=lambda s: -s.settings.created)
        elif order == "downloads":
            found.sort(key=lambda s: -request.hub.downloads.of(s.repo))
        return found

    index, start = request.hub.index, request.number("cursor", 0)
    page, headers = page_of(request, index.walk(_list_of(request, kind), start, find))
    if start:  # it was found with the first page, and may have changed
        page = [s for s in access.visible_to(request.grant, index.again(page)) if _fits(request, s)]
    wanted = _wanted(request, _LISTED_IN_FULL if request.flag("full") else _LISTED)
    return json_response([_described(request, s, wanted) for s in page], headers=headers)


def repo_info(request: Request, revision: str = MAIN.full, **where: str) -> Response:
    """Tell what is known of a repo."""
    seen = view(visible(request, **where), revision)
    return json_response(_described(request, seen, _wanted(request, _SHOWN)))


def file_json(file: File) -> dict[str, Any]:
    """Return a file as trees list it."""
    found: dict[str, Any] = {"type": "file", "path": file.path, "size": file.size, "oid": file.blob_id}
    if file.lfs:
        found["lfs"] = {
            "oid": file.sha256,
            "size": file.size,
            "pointerSize": len(lfs_pointer(file.sha256, file.size)),
        }
    return found


def iso_time(seconds: int) -> str:
    """Return a time as the client reads it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _id(wanted: dict[str, Any], key: str) -> tuple[str, str]:
    namespace, _, name = string(wanted, key).partition("/")
    return namespace, name


def _namespace(wanted: dict[str, Any], grant: Grant) -> str:
    return grant.name if wanted.get("organization") is None else string(wanted, "organization")


def _wanted(request: Request, usual: Iterable[str]) -> list[str]:
    expand = [e for key in ("expand", "expand[]") for e in request.query.get(key, [])]
    if not expand:
        more = [key for key in ("cardData", "config") if request.flag(key)]
        return [*usual, *more]
    if unknown := set(expand) - _FIELDS:
        raise bad_request(f"'expand' cannot be {', '.join(sorted(unknown))} here")
    return expand


def _list_of(request: Request, kind: str) -> Hashable:
    """Return what the pages of one list have in common: who asks, and for what."""
    asked = {key: tuple(values) for key, values in request.query.items() if key not in ("cursor", "limit")}
    return kind, request.grant, frozenset(asked.items())


def _fits(request: Request, seen: RepoView) -> bool:
    gated = request.one("gated")
    return (
        all(tag in seen.known.tags for tag in request.query.get("filter", []))
        and request.one("pipeline_tag") in (None, seen.known.pipeline_tag)
        and request.one("library") in (None, seen.known.library)
        and (gated is None or request.flag("gated") == (seen.settings.gated is not None))
    )


_FIELDS = {
    "author", "baseModels", "cardData", "config", "createdAt", "disabled", "downloads", "downloadsAllTime", "gated",
    "lastModified", "library_name", "likes", "pipeline_tag", "private", "safetensors", "sha", "siblings", "tags",
    "trendingScore", "usedStorage",
}  # fmt: skip


def _described(request: Request, seen: RepoView, wanted: Iterable[str]) -> dict[str, Any]:
    repo, known, settings = seen.repo, seen.known, seen.settings
    found: dict[str, Any] = {"id": repo.id}
    if repo.type == "model":
        found["modelId"] = repo.id
    values: dict[str, Any] = {
        "author": repo.namespace,
        "baseModels": _base_models(known),
        "cardData": known.card or None,
        "config": known.config or None,
        "createdAt": iso_time(settings.created),
        "disabled": False,
        "downloads": request.hub.downloads.of(repo),
        "downloadsAllTime": request.hub.downloads.of(repo),
        "gated": settings.gated or False,
        "lastModified": iso_time(seen.commit.date),
        "library_name": known.library,
        "likes": 0,
        "pipeline_tag": known.pipeline_tag,
        "private": settings.private,
        "safetensors": known.parameters and {"parameters": known.parameters, "total": sum(known.parameters.values())},
        "sha": seen.commit.id,
        "tags": list(known.tags),
        "trendingScore": 0,
    }
    for field in wanted:
        if field == "siblings":
            found[field] = [_sibling(f, blobs=request.flag("blobs")) for f in seen.tree.values()]
        elif field == "usedStorage":
            found[field] = sum({f.sha256: f.size for f in seen.tree.values()}.values())
        elif values[field] is not None and values[field] != {}:
            found[field] = values[field]
    return found


def _base_models(known: Metadata) -> dict[str, Any] | None:
    bases = front_matter.texts(known.card.get("base_model"))
    if not bases:
        return None
    return {"relation": known.relation, "models": [{"id": b} for b in bases]}


def _sibling(file: File, *, blobs: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": file.path}
    if blobs:
        found |= {"size": file.size, "blobId": file.blob_id}
        if file.lfs:
            pointer = len(lfs_pointer(file.sha256, file.size))
            found["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": pointer}
    return found
