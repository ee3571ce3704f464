"""Files: trees, what is to be uploaded how, and downloads."""

import base64
import binascii
import re
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote

from bot.localhub.access import contributor, readable, visible
from bot.localhub.api_repos import file_json, iso_time
from bot.localhub.git_rules import MOST_BYTES, is_ignored, is_lfs
from bot.localhub.lists import paged
from bot.localhub.metadata import read_text
from bot.localhub.names import check_path
from bot.localhub.objects import Commit, Tree, folder_ids
from bot.localhub.refused import RefusedError, bad_request, not_found
from bot.localhub.repo import LocalRepo
from bot.localhub.signed import sign, signed_fields
from bot.localhub.web import FilePart, Request, Response, json_response, string

_TEXT = {".cfg", ".csv", ".jinja", ".json", ".jsonl", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
_IMAGES = {".gif": "image/gif", ".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def list_tree(request: Request, revision: str, path: str, **where: str) -> Response:
    """List a folder, or everything below it."""
    repo = visible(request, **where)
    commit = repo.resolve(revision)
    tree, folders = repo.tree(commit), folder_ids(repo.tree(commit))
    path = path.strip("/")
    if path not in folders:
        raise not_found("EntryNotFound", f"{repo.id} has no folder {path} at {commit.id}", commit=commit.id)
    prefix, deep = f"{path}/" if path else "", request.flag("recursive")
    inside = sorted(p for p in (*tree, *folders) if p.startswith(prefix) and p != path)
    chosen = [p for p in inside if deep or "/" not in p[len(prefix) :]]
    return paged(request, _entries(request, repo, commit, chosen))


def paths_info(request: Request, revision: str, **where: str) -> Response:
    """Tell of some paths; those that are not there are left out."""
    repo = visible(request, **where)
    commit = repo.resolve(revision)
    form = parse_qs(request.body.text(most=request.hub.limits.json_body), keep_blank_values=True)
    tree, folders = repo.tree(commit), folder_ids(repo.tree(commit))
    paths = [p for p in dict.fromkeys(p.strip("/") for p in form.get("paths", [])) if p in tree or (p and p in folders)]
    found = _entries(request, repo, commit, paths, expand=form.get("expand", ["false"])[0].lower() == "true")
    for entry in found:
        if "lfs" in entry:  # by this name the client asks for a copy in another repo; the Hub's own is a Xet hash
            entry["xetHash"] = entry["lfs"]["oid"]
    return json_response(found)


def preupload(request: Request, revision: str, **where: str) -> Response:
    """Say of each file whether it is to come in the commit, or as an LFS file before it."""
    repo = visible(request, **where)
    contributor(request, repo)
    commit = repo.resolve(revision)
    tree = repo.tree(commit)
    body = request.json()
    files = body.get("files")
    if not isinstance(files, list) or not all(isinstance(f, dict) for f in files):
        raise bad_request("'files' is missing, or is not a list of objects")
    answer = []
    attributes, ignores = _rules(repo, tree, ".gitattributes"), _rules(repo, tree, ".gitignore")
    if body.get("gitIgnore") is not None:
        ignores = {"": string(body, "gitIgnore")[:MOST_BYTES]}
    for wanted in files:
        path, size = check_path(string(wanted, "path")), wanted.get("size")
        if not isinstance(size, int):
            raise bad_request("'size' is missing, or is not a number")
        lfs = size >= request.hub.limits.lfs_from or is_lfs(attributes, path) or _is_binary(wanted)
        held = tree.get(path)
        same_mode = held is not None and held.lfs == lfs
        oid = (held.sha256 if held.lfs else held.blob_id) if held and same_mode else None
        mode, ignored = "lfs" if lfs else "regular", is_ignored(ignores, path)
        answer.append({"path": path, "uploadMode": mode, "shouldIgnore": ignored, "oid": oid})
    return json_response({"files": answer, "commitOid": commit.id})


def resolve(request: Request, revision: str, path: str, **where: str) -> Response:
    """Send a file, or lead to it when it is an LFS file."""
    repo = readable(request, **where)
    commit = repo.resolve(revision)
    file = repo.file(commit, path)
    headers = {"X-Repo-Commit": commit.id}
    if request.method == "GET":
        request.hub.downloads.count(repo, path)
    if not file.lfs:
        return _send(request, repo, file.sha256, path, headers | {"ETag": f'"{file.blob_id}"'})
    if not repo.owns(file.sha256):
        raise not_found("EntryNotFound", f"{path} was deleted from {repo.id} for good", commit=commit.id)
    headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size), "ETag": f'"{file.sha256}"'}
    named = {"repo": f"{repo.type}s/{repo.id}", "sha256": file.sha256, "commit": commit.id, "name": path}
    location = sign(request, "/_lfs/download", **named)
    return Response(status=HTTPStatus.FOUND, headers=headers | {"Location": location})


def download(request: Request) -> Response:
    """Send an LFS file to whoever was led here. The client follows on the same host, so all headers come again."""
    fields = signed_fields(request)
    types, namespace, name = fields["repo"].split("/")
    repo = request.hub.find(types[:-1], namespace, name)
    if repo is None or not repo.owns(fields["sha256"]):
        raise not_found("EntryNotFound", "this file was deleted")
    etag = f'"{fields["sha256"]}"'
    headers = {"X-Repo-Commit": fields["commit"], "X-Linked-Etag": etag, "ETag": etag}
    return _send(request, repo, fields["sha256"], fields["name"], headers)


def _send(request: Request, repo: LocalRepo, sha256: str, path: str, headers: dict[str, str]) -> Response:
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    try:
        file = repo.blobs.path(sha256).open("rb")
    except FileNotFoundError:
        raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, f"the blob {sha256} is lost") from None
    size = file.seek(0, 2)
    suffix = PurePosixPath(path).suffix.lower()
    kind = _IMAGES.get(suffix) or ("text/plain; charset=utf-8" if suffix in _TEXT else "application/octet-stream")
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Type": kind,
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(PurePosixPath(path).name, safe='')}",
    }
    return _ranged(request, file, size, headers)


def _ranged(request: Request, file: BinaryIO, size: int, headers: dict[str, str]) -> Response:
    wanted = _RANGE.fullmatch(request.headers.get("range", "").strip())
    conditional = request.headers.get("if-range")
    if wanted is None or wanted[0] == "bytes=-" or conditional not in (None, headers["ETag"]):
        return Response(headers=headers, body=FilePart(file=file, offset=0, count=size))
    first, last = wanted.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        file.close()
        raise RefusedError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"this file has {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return Response(
        status=HTTPStatus.PARTIAL_CONTENT,
        headers=headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"},
        body=FilePart(file=file, offset=start, count=end - start),
    )


def _entries(
    request: Request, repo: LocalRepo, commit: Commit, paths: Iterable[str], *, expand: bool | None = None
) -> list[dict[str, Any]]:
    tree, folders = repo.tree(commit), folder_ids(repo.tree(commit))
    found = [
        file_json(tree[p]) if p in tree else {"type": "directory", "path": p, "size": 0, "oid": folders[p]}
        for p in paths
    ]
    if request.flag("expand") if expand is None else expand:
        touched = last_commits(repo, commit)
        for entry in found:
            last = touched[str(entry["path"])]
            entry["lastCommit"] = {"id": last.id, "title": last.title, "date": iso_time(last.date)}
    return found


def last_commits(repo: LocalRepo, commit: Commit) -> dict[str, Commit]:
    """Return, for each file and folder of a commit, the commit that last changed it."""
    now = _ids(repo.tree(commit))
    found: dict[str, Commit] = {}
    newer = commit
    for older in repo.history(commit):
        before = _ids(repo.tree(older))
        found |= {p: newer for p in now if p not in found and before.get(p) != now[p]}
        if len(found) == len(now):
            return found
        newer = older
    return {p: found.get(p, newer) for p in now}


def _ids(tree: Tree) -> dict[str, str]:
    return {p: f.blob_id for p, f in tree.items()} | folder_ids(tree)


def _rules(repo: LocalRepo, tree: Tree, name: str) -> dict[str, str]:
    """Return the texts of all files of a name, by their folders."""
    found = [path for path in tree if path == name or path.endswith(f"/{name}")]
    return {p[: -len(name)].rstrip("/"): read_text(repo.blobs, tree, p, most=MOST_BYTES) for p in found}


def _is_binary(wanted: dict[str, Any]) -> bool:
    try:
        sample = base64.b64decode(string(wanted, "sample", ""), validate=True)
    except (binascii.Error, ValueError):
        raise bad_request("'sample' is not base64") from None
    return b"\0" in sample
