"""Collections over HTTP, as the real Hub's client makes, fills, lists and deletes them."""

import time
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, get_args

from bot.localhub import names
from bot.localhub.access import repo_type, sees, writer, writer_of
from bot.localhub.api_repos import iso_time
from bot.localhub.collections import MOST_ITEMS, Collection, Item, Kind, gone, new_id
from bot.localhub.lists import page_of
from bot.localhub.refused import RefusedError, bad_request, conflict
from bot.localhub.repo import LocalRepo
from bot.localhub.web import Request, Response, json_response, string

_SHOWN_IN_LISTS = 4  # items of each
_TYPES: tuple[Kind, ...] = get_args(Kind)
_FILTERS = {"owner", "item", "sort", "limit", "cursor", "expand", "q"}


def list_collections(request: Request) -> Response:
    """List the collections that the caller may see, the last changed first; of each, its first items."""
    if unknown := set(request.query) - _FILTERS:
        raise bad_request(f"the embedded Hub cannot filter by {', '.join(sorted(unknown))}")
    owners = {owner.lower() for owner in request.query.get("owner", [])}
    wanted = request.query.get("item", [])
    found = [
        c
        for c in request.hub.collections.all()
        if _sees(request, c)
        and (not owners or c.namespace.lower() in owners)
        and all(any(f"{i.type}s/{i.repo}" == item for i in c.items) for item in wanted)
    ]
    page, headers = page_of(request, found)
    return json_response([_told(request, c, most=_SHOWN_IN_LISTS) for c in page], headers=headers)


def create(request: Request) -> Response:
    """Make a collection; a 409 that names the one of that title, where there is one."""
    wanted, grant = request.json(), writer(request)
    namespace = grant.spelled(names.check_namespace(string(wanted, "namespace", grant.name)))
    writer_of(request, namespace)
    asked = Collection(
        id=new_id(),
        namespace=namespace,
        title=names.title_of(string(wanted, "title")),
        changed=int(time.time()),
        private=wanted.get("private") is True,
        description=_optional(wanted, "description"),
    )
    made = request.hub.collections.make(asked)
    if made.id != asked.id:
        return json_response(
            {"error": "You already created this collection", "slug": made.slug}, status=HTTPStatus.CONFLICT
        )
    return json_response(_json(request, made))


def show(request: Request, namespace: str, slug: str) -> Response:
    """Tell what is in a collection."""
    return json_response(_json(request, _visible(request, namespace, slug)))


def update(request: Request, namespace: str, slug: str) -> Response:
    """Change what a collection is called, and who sees it."""
    found, wanted = _owned(request, namespace, slug), request.json()

    def change(old: Collection) -> Collection:
        return replace(
            old,
            title=names.title_of(string(wanted, "title", old.title)),
            description=_optional(wanted, "description") if "description" in wanted else old.description,
            private=wanted["private"] is True if "private" in wanted else old.private,
            theme=string(wanted, "theme", old.theme),
        )

    return json_response({"data": _json(request, request.hub.collections.change(found.slug, change))})


def delete(request: Request, namespace: str, slug: str) -> Response:
    """Delete a collection; the repos in it stay."""
    request.hub.collections.delete(_owned(request, namespace, slug).slug)
    return json_response({})


def add_item(request: Request, namespace: str, slug: str) -> Response:
    """Put a repo at the end of a collection; a 409 where it is in it."""
    found, wanted = _owned(request, namespace, slug), request.json()
    item = _item(request, wanted)

    def change(old: Collection) -> Collection:
        if any((i.type, i.repo.lower()) == (item.type, item.repo.lower()) for i in old.items):
            raise conflict(f"{item.repo} is in this collection already")
        if len(old.items) >= MOST_ITEMS:
            raise bad_request(f"a collection holds at most {MOST_ITEMS} items")
        return replace(old, items=(*old.items, item))

    return json_response(_json(request, request.hub.collections.change(found.slug, change)))


def update_item(request: Request, namespace: str, slug: str, item_id: str) -> Response:
    """Give an item another note or another place."""
    found, wanted = _owned(request, namespace, slug), request.json()
    place = wanted.get("position")
    if place is not None and (not isinstance(place, int) or isinstance(place, bool) or place < 0):
        raise bad_request("'position' is not a number from 0")

    def change(old: Collection) -> Collection:
        item = _named(old, item_id)
        others = [i for i in old.items if i.id != item_id]
        at = old.items.index(item) if place is None else min(place, len(others))
        noted = replace(item, note=_optional(wanted, "note")) if "note" in wanted else item
        return replace(old, items=(*others[:at], noted, *others[at:]))

    request.hub.collections.change(found.slug, change)
    return json_response({"success": True})


def delete_item(request: Request, namespace: str, slug: str, item_id: str) -> Response:
    """Take an item out of a collection."""
    found = _owned(request, namespace, slug)

    def change(old: Collection) -> Collection:
        _named(old, item_id)
        return replace(old, items=tuple(i for i in old.items if i.id != item_id))

    request.hub.collections.change(found.slug, change)
    return json_response({"success": True})


def _visible(request: Request, namespace: str, slug: str) -> Collection:
    found = request.hub.collections.find(slug)
    if found is None or found.namespace.lower() != namespace.lower() or not _sees(request, found):
        raise gone()
    return found


def _owned(request: Request, namespace: str, slug: str) -> Collection:
    found = _visible(request, namespace, slug)
    writer_of(request, found.namespace)
    return found


def _sees(request: Request, found: Collection) -> bool:
    return not found.private or (request.grant is not None and request.grant.belongs_to(found.namespace))


def _item(request: Request, wanted: dict[str, Any]) -> Item:
    """Return what is to be added: a repo that is there for the caller."""
    told = wanted.get("item")
    if not isinstance(told, dict):
        raise bad_request("'item' is missing, or is not an object")
    kind = next((t for t in _TYPES if t == told.get("type")), None)
    if kind is None:
        raise bad_request(f"the embedded Hub collects {' and '.join(_TYPES)}s alone")
    repo = _repo(request, kind, string(told, "id"))
    if repo is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"{kind} not found")
    return Item(id=new_id(), type=kind, repo=repo.id, note=_optional(wanted, "note"))


def _repo(request: Request, kind: Kind, repo_id: str) -> LocalRepo | None:
    """Return a repo, or None where there is none for the caller."""
    namespace, _, name = repo_id.partition("/")
    try:
        found = request.hub.find(repo_type(f"{kind}s"), namespace, name)
    except RefusedError:
        return None
    return found if found is not None and sees(request.grant, found, found.settings()) else None


def _named(found: Collection, item_id: str) -> Item:
    item = found.item(item_id)
    if item is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, "Collection item not found")
    return item


def _optional(wanted: dict[str, Any], key: str) -> str | None:
    return None if wanted.get(key) is None else string(wanted, key)


def _json(request: Request, found: Collection) -> dict[str, Any]:
    """Return a collection as the client reads it by itself; in a list, its place there is its position."""
    return _told(request, found) | {"position": 0}


def _told(request: Request, found: Collection, *, most: int = MOST_ITEMS) -> dict[str, Any]:
    """Return what is known of a collection, with those of its items that are there for the caller."""
    return {
        "slug": found.slug,
        "title": found.title,
        "description": found.description,
        "owner": found.namespace,
        "lastUpdated": iso_time(found.changed),
        "private": found.private,
        "theme": found.theme,
        "upvotes": 0,
        "items": _items(request, found.items)[:most],
    }


def _items(request: Request, items: Sequence[Item]) -> list[dict[str, Any]]:
    there = [i for i in items if _repo(request, i.type, i.repo) is not None]
    return [
        {"_id": i.id, "id": i.repo, "type": i.type, "position": n} | ({"note": {"text": i.note}} if i.note else {})
        for n, i in enumerate(there)
    ]
