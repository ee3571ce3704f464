"""Calls that only the doctor makes, in repos of its own: making and removing them, branches, tags, collections, pages.

Nothing here changes a repo that its caller did not name, and names are checked to be scratch ones before anything of
them is removed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bot.errors import HubRefusedError, PhiBotError
from bot.hub.client import Hub
from bot.hub.errors import hub_errors
from bot.hub.ranges import read_range
from bot.hub.repo import RepoType, whoami
from bot.hub.session import headers_of
from bot.hub.trusted_publishers import Publishers
from bot.records.artifacts import Json, Release, SourceFile

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

PREFIX = "phi-bot-doctor-scratch-"  # of every repo and collection that the doctor makes

_HINT = "Is it a Hugging Face Hub (--endpoint, HF_ENDPOINT)?"
_LISTED = 100  # scratch repos and collections that are looked at


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a list: the ids on it, and whether the Hub leads on to another one, with its ids."""

    ids: tuple[str, ...]
    following: tuple[str, ...] | None


def account(hub: Hub) -> Json:
    """Return what the Hub says of a client's token: whose it is, and what it may do. Raises TokenError without one."""
    with hub_errors(hub.endpoint):
        return whoami(hub.api)


def first_pages(hub: Hub, author: str, *, limit: int | None = None) -> Page:
    """Return the first page of an author's models and the one that it leads to. ``limit`` is a page's length."""
    from huggingface_hub import get_session, hf_raise_for_status

    def ask(url: str, parameters: dict[str, str] | None) -> tuple[tuple[str, ...], str | None]:
        answer = get_session().get(url, params=parameters, headers=headers_of(hub.api))
        hf_raise_for_status(answer)
        following = answer.links.get("next", {}).get("url")
        if following is not None and not following.startswith(f"{hub.endpoint}/"):
            raise HubRefusedError(f"the next page of {hub.endpoint} is on another host", hint=_HINT)
        return tuple(str(entry["id"]) for entry in answer.json()), following

    with hub_errors(hub.endpoint, author):
        parameters = {"author": author} | ({} if limit is None else {"limit": str(limit)})
        ids, url = ask(f"{hub.endpoint}/api/models", parameters)
        return Page(ids=ids, following=None if url is None else ask(url, None)[0])


def leftovers(hub: Hub, namespace: str) -> list[str]:
    """Return the scratch repos and collections in a namespace: ``owner/name``, ``datasets/…`` and ``collections/…``."""
    with hub_errors(hub.endpoint, namespace):
        given: dict[str, Any] = {"author": namespace, "search": PREFIX, "limit": _LISTED}
        found = [info.id for info in hub.api.list_models(**given)]
        found += [f"datasets/{info.id}" for info in hub.api.list_datasets(**given)]
        return [name for name in found if is_scratch(name)] + list(_collections(hub, namespace))


def _collections(hub: Hub, namespace: str) -> Iterator[str]:
    for found in hub.api.list_collections(owner=namespace, limit=_LISTED):
        if found.title.startswith(PREFIX):
            yield f"collections/{found.slug}"


def is_scratch(name: str) -> bool:
    """Say whether a repo or a collection has a name that only the doctor gives."""
    return name.rpartition("/")[2].startswith(PREFIX)


def create(hub: Hub, repo_id: str, repo_type: RepoType = "model") -> None:
    """Make a private repo. Raises HubRefusedError where there is one of that name."""
    with hub_errors(hub.endpoint, repo_id):
        hub.api.create_repo(repo_id, private=True, repo_type=repo_type)


def is_private(hub: Hub, repo_id: str, repo_type: RepoType = "model") -> bool | None:
    """Say whether a repo is private; None where there is none, for this token."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with hub_errors(hub.endpoint, repo_id):
        try:
            return bool(hub.api.repo_info(repo_id, repo_type=repo_type).private)
        except RepositoryNotFoundError:
            return None


def remove(hub: Hub, name: str) -> bool:
    """Remove a scratch repo or collection: one of the names that ``leftovers`` returns. False where there was none.

    Raises HubRefusedError where it is there afterwards, or has another name than the doctor gives.
    """
    kind, _, rest = name.partition("/") if name.count("/") == 2 else ("models", "", name)
    if not is_scratch(name):
        raise HubRefusedError(f"{name} is not scratch of the doctor's, and is not removed", hint="Remove it by hand.")
    with hub_errors(hub.endpoint, rest):
        try:
            if kind == "collections":
                hub.api.delete_collection(rest)
            else:
                hub.api.delete_repo(rest, repo_type=kind.removesuffix("s"))
        except _http_error() as error:
            # After a lost answer the Hub has nothing to remove any more; whether that is so, its lists tell.
            if error.response.status_code != HTTPStatus.NOT_FOUND or name in leftovers(hub, rest.partition("/")[0]):
                raise
            return False
        return True


def _http_error() -> "type[HfHubHTTPError]":
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError


def branch(hub: Hub, repo_id: str, name: str) -> str:
    """Make a branch at the head of main, find it in the list of refs, remove it; return the commit that it was at."""
    with hub_errors(hub.endpoint, repo_id, revision=name):
        hub.api.create_branch(repo_id, branch=name)
        found = [b.target_commit for b in hub.api.list_repo_refs(repo_id).branches if b.name == name]
        if not found:
            raise HubRefusedError(f"the new branch {name} is not in the list of branches", hint=_HINT)
        hub.api.delete_branch(repo_id, branch=name)
        return str(found[0])


def tag(hub: Hub, repo_id: str, name: str) -> str:
    """Set a tag at the head of main, find it in the list of refs, remove it; return the commit that it was at."""
    with hub_errors(hub.endpoint, repo_id, revision=name):
        hub.api.create_tag(repo_id, tag=name, tag_message="phi-bot doctor")
        found = [t.target_commit for t in hub.api.list_repo_refs(repo_id).tags if t.name == name]
        if not found:
            raise HubRefusedError(f"the new tag {name} is not in the list of tags", hint=_HINT)
        hub.api.delete_tag(repo_id, tag=name)
        return str(found[0])


def read_part(hub: Hub, repo_id: str, commit: str, file: SourceFile, size: int) -> bytes:
    """Return the first bytes of a file, by a request for a range. Raises HubRefusedError for a Hub that sends all."""
    release = Release(repo_id=repo_id, commit=commit, content_digest="0" * 64, files=(file,), config={})
    pieces: list[bytes] = []
    with hub_errors(hub.endpoint, repo_id, revision=commit):
        read_range(hub.api, release, file, 0, size, pieces.append)
    return b"".join(pieces)


def is_stale(error: PhiBotError) -> bool:
    """Say whether an error is the Hub's word on a commit that its parent is not the head any more (412)."""
    cause = error.__cause__
    if not isinstance(cause, _http_error()):
        return False
    response = cause.response
    return response.status_code == HTTPStatus.PRECONDITION_FAILED and "/commit/" in response.request.url.path


# ---- collections ---------------------------------------------------------------------------------------------


def make_collection(hub: Hub, namespace: str, title: str) -> str:
    """Make a private collection; return its slug."""
    with hub_errors(hub.endpoint, namespace):
        return str(hub.api.create_collection(title, namespace=namespace, private=True).slug)


def fill_collection(hub: Hub, slug: str, repo_id: str) -> str:
    """Put a model into a collection; return the item's own id."""
    with hub_errors(hub.endpoint, slug):
        found = [i for i in hub.api.add_collection_item(slug, repo_id, "model").items if i.item_id == repo_id]
        if not found:
            raise HubRefusedError(f"{repo_id} is not in the collection that it was put into", hint=_HINT)
        return str(found[0].item_object_id)


def empty_collection(hub: Hub, slug: str, item: str) -> int:
    """Take an item out of a collection; return how many are left in it."""
    with hub_errors(hub.endpoint, slug):
        hub.api.delete_collection_item(slug, item)
        return len(hub.api.get_collection(slug).items)


# ---- Xet -----------------------------------------------------------------------------------------------------


def uses_xet() -> bool:
    """Say whether large files go up by Xet in this process: hf_xet is installed, and nothing turned it off."""
    from huggingface_hub.utils._runtime import is_xet_available

    return bool(is_xet_available())


@contextmanager
def without_xet() -> Iterator[None]:
    """Have large files go up by LFS until the block ends: the other way, for those where Xet is blocked."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


# ---- what is asked beside repos --------------------------------------------------------------------------------


def jobs_of(hub: Hub, payer: str, labels: dict[str, str]) -> int:
    """Return how many jobs with these labels there are. Starts none."""
    with hub_errors(hub.endpoint, payer):
        return sum(1 for _ in hub.api.list_jobs(namespace=payer, labels=labels))


def flavors(hub: Hub) -> int:
    """Return how many kinds of machines jobs can run on."""
    with hub_errors(hub.endpoint):
        return len(hub.api.list_jobs_hardware())


def exchange(hub: Hub, resource: str) -> None:
    """Trade this workflow's identity for a token for one repo, and forget it. Raises TokenError where none is given."""
    Publishers(hub.endpoint).token(resource)
