"""The Git LFS batch protocol, with the Hub's own upload in parts
(https://github.com/git-lfs/git-lfs, docs/api/batch.md)."""

import logging
import math
import shutil
from http import HTTPStatus
from typing import Any

from bot.localhub.access import contributor, find_visible, readable, visible, writer_to
from bot.localhub.names import is_sha256
from bot.localhub.refused import RefusedError, bad_request, not_found
from bot.localhub.repo import LocalRepo
from bot.localhub.signed import sign, signed_fields
from bot.localhub.web import Request, Response, json_response, string

log = logging.getLogger(__name__)

_TYPE = {"Content-Type": "application/vnd.git-lfs+json"}


def batch(request: Request, **where: str) -> Response:
    """Say of each LFS file where to put it, or that it is here."""
    repo = visible(request, **where)
    contributor(request, repo)
    wanted = request.json()
    if wanted.get("operation") != "upload":
        raise bad_request("the embedded Hub takes the operation 'upload'; files are downloaded from /resolve/")
    objects = wanted.get("objects")
    if not isinstance(objects, list) or not all(isinstance(o, dict) for o in objects):
        raise bad_request("'objects' is missing, or is not a list of objects")
    transfers = wanted.get("transfers")
    parts = isinstance(transfers, list) and "multipart" in transfers
    answer = [_object(request, repo, o.get("oid"), o.get("size"), parts=parts) for o in objects]
    return json_response({"transfer": "multipart" if parts else "basic", "objects": answer}, headers=_TYPE)


def upload(request: Request) -> Response:
    """Take a whole LFS file."""
    fields, repo = _upload(request)
    repo.blobs.receive(request.body.chunks(), sha256=fields["sha256"], size=int(fields["size"]))
    repo.own(fields["sha256"])
    return Response(headers={"ETag": f'"{fields["sha256"]}"'})


def upload_part(request: Request) -> Response:
    """Take one part of an LFS file."""
    fields, repo = _upload(request)
    offset = int(fields["part"]) * int(fields["part_size"])
    size = min(int(fields["part_size"]), int(fields["size"]) - offset)
    etag = repo.blobs.receive_part(fields["upload"], request.body.chunks(), offset=offset, size=size)
    return Response(headers={"ETag": f'"{etag}"'})


def complete(request: Request) -> Response:
    """Put the parts of an LFS file together. A second call, after a lost answer, finds it done."""
    fields, repo = _upload(request)
    request.json()  # the parts that the client believes to have sent: the hash of the whole says more
    if not repo.owns(fields["sha256"]):
        repo.blobs.finish_parts(fields["upload"], sha256=fields["sha256"], size=int(fields["size"]))
        repo.own(fields["sha256"])
    return json_response({"success": True}, headers=_TYPE)


def verify(request: Request, **where: str) -> Response:
    """Say whether an LFS file is here, and whole."""
    repo = visible(request, **where)
    contributor(request, repo)
    wanted = request.json()
    sha256 = string(wanted, "oid")
    if not is_sha256(sha256) or not repo.owns(sha256) or repo.blobs.size(sha256) != wanted.get("size"):
        raise not_found("EntryNotFound", f"{sha256} was not uploaded to {repo.id} in that size")
    return json_response({}, headers=_TYPE)


def no_xet(request: Request, **where: str) -> Response:
    """Refuse a client that was not told. It shows the address alone, so the reason also goes to the server's log."""
    visible(request, **{k: where[k] for k in ("types", "namespace", "name")})
    message = "the embedded Hub has no Xet storage: set HF_HUB_DISABLE_XET=1 in the environment of its clients"
    log.warning(message)
    raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, message)


def duplicate(request: Request, **where: str) -> Response:
    """Let another repo have LFS files of this one, without an upload."""
    source, wanted = readable(request, **where), request.json()
    target, files = wanted.get("target"), wanted.get("files")
    if not isinstance(target, dict) or not isinstance(files, list) or not all(isinstance(f, dict) for f in files):
        raise bad_request("'target' or 'files' is missing")
    namespace, _, name = string(target, "name").partition("/")
    repo = find_visible(request, string(target, "type", "model") + "s", namespace, name)
    writer_to(request, repo)
    failed = []
    for file in files:
        sha256 = string(file, "sha256")
        if is_sha256(sha256) and source.owns(sha256):
            repo.own(sha256)
        else:
            failed.append({"sha256": sha256, "error": f"not a file of {source.id}"})
    return json_response({"failed": failed})


def _object(request: Request, repo: LocalRepo, sha256: Any, size: Any, *, parts: bool) -> dict[str, Any]:
    limits = request.hub.limits
    if not is_sha256(sha256) or not isinstance(size, int) or size <= 0:
        raise bad_request("an object needs an 'oid' of 64 hex digits and a positive 'size'")
    if repo.owns(sha256) and repo.blobs.size(sha256) == size:
        return {"oid": sha256, "size": size}
    if size > limits.file:
        return _refused(sha256, size, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {limits.file} bytes")
    if size > shutil.disk_usage(request.hub.folder).free:
        return _refused(sha256, size, HTTPStatus.INSUFFICIENT_STORAGE, "the disk of the embedded Hub is too small")
    fields: dict[str, str | int] = {"repo": f"{repo.type}s/{repo.id}", "sha256": sha256, "size": size}
    header: dict[str, str] = {}
    href = sign(request, "/_lfs/upload", **fields)
    if parts and size > limits.part:
        fields |= {"upload": repo.blobs.begin_parts(size), "part_size": limits.part}
        href = sign(request, "/_lfs/complete", **fields)
        header = {"chunk_size": str(limits.part)}
        for part in range(math.ceil(size / limits.part)):
            header[f"{part + 1:05}"] = sign(request, "/_lfs/part", **fields, part=part)
    verify_at = f"{request.base}/{repo.path}.git/info/lfs/verify"
    return {
        "oid": sha256,
        "size": size,
        "authenticated": True,
        "actions": {"upload": {"href": href, "header": header}, "verify": {"href": verify_at}},
    }


def _refused(sha256: str, size: int, status: HTTPStatus, message: str) -> dict[str, Any]:
    return {"oid": sha256, "size": size, "error": {"code": int(status), "message": message}}


def _upload(request: Request) -> tuple[dict[str, str], LocalRepo]:
    fields = signed_fields(request)
    types, namespace, name = fields["repo"].split("/")
    repo = request.hub.find(types[:-1], namespace, name)
    if repo is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, "this repo was deleted", code="RepoNotFound")
    return fields, repo
