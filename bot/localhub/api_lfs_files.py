"""LFS files of a repo over HTTP: listing them, and deleting them for good."""

from typing import Any

from bot.localhub import lfs_files
from bot.localhub.access import owned, writable
from bot.localhub.api_repos import iso_time
from bot.localhub.lfs_files import HeldFile
from bot.localhub.lists import paged
from bot.localhub.names import is_sha256
from bot.localhub.refused import bad_request
from bot.localhub.web import Request, Response, json_response

_MOST = 1000  # in one request: the client sends no more


def list_files(request: Request, **where: str) -> Response:
    """List the LFS files that a repo holds, those of old commits too."""
    return paged(request, [_json(h) for h in lfs_files.list_all(writable(request, **where))])


def delete(request: Request, **where: str) -> Response:
    """Delete LFS files for good, out of the history unless it is to stay as it is."""
    repo, wanted = owned(request, **where), request.json().get("deletions")
    names = wanted.get("sha") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or not isinstance(names, list) or not all(is_sha256(n) for n in names[: _MOST + 1]):
        raise bad_request("'deletions' has no list 'sha' of hashes")
    if len(names) > _MOST:
        raise bad_request(f"more than {_MOST} files in one request")
    rewrite = wanted.get("rewriteHistory", True)
    if not isinstance(rewrite, bool):
        raise bad_request("'rewriteHistory' is true or false")
    lfs_files.delete(repo, set(names), rewrite=rewrite)
    request.automation.garbage.wake()
    return json_response({})


def _json(held: HeldFile) -> dict[str, Any]:
    told: dict[str, Any] = {
        "fileOid": held.sha256,
        "filename": held.path or held.sha256,
        "oid": held.sha256,
        "pushedAt": iso_time(held.pushed),
        "size": held.size,
    }
    return told | ({"ref": held.ref.full} if held.ref else {})
