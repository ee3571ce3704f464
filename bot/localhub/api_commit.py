"""The commit call: lines of JSON, the first with the message, each other with one operation."""

import base64
import binascii
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from bot.localhub import changes, discussions, front_matter
from bot.localhub.access import contributor, visible, writer_to
from bot.localhub.api_webhooks import tell_of_commit
from bot.localhub.changes import Change
from bot.localhub.names import check_path, is_commit, is_sha256, title_of
from bot.localhub.objects import File, lfs_file, regular_file
from bot.localhub.refused import RefusedError, bad_request, not_found
from bot.localhub.repo import LocalRepo, Ref, stale_parent
from bot.localhub.tokens import Grant
from bot.localhub.web import Request, Response, json_object, json_response, string


def commit(request: Request, revision: str, **where: str) -> Response:
    """Put one commit on a branch or a pull request, or open a pull request with it."""
    repo = visible(request, **where)
    grant = contributor(request, repo)
    as_pull_request = request.flag("create_pr")
    ref = repo.find_ref(revision)
    if ref is None or ref.kind == "tags":
        message = f"Invalid rev id: {revision} is not a branch: commits land on branches and pull requests"
        raise not_found("RevisionNotFound", message)
    if not as_pull_request:
        _may_land(request, repo, ref, grant)
    lines = _lines(request)
    header = _header(next(lines, {}))
    made = [_change(repo, line) for line in lines]
    return (
        _open(request, repo, ref, header, made, grant)
        if as_pull_request
        else _land(request, repo, ref, header, made, grant)
    )


def _land(
    request: Request, repo: LocalRepo, ref: Ref, header: dict[str, Any], made: list[Change], grant: Grant
) -> Response:
    with repo.changing():
        before = repo.resolve(ref.full).id
        landed = repo.land(
            ref,
            lambda tree: changes.apply(made, tree),
            parent=header["parent"],
            author=grant.name,
            title=header["title"],
            description=header["description"],
        )
    tell_of_commit(request, repo, ref.full, before, landed.id)
    return _answer(request, repo, landed.id)


def _open(
    request: Request, repo: LocalRepo, ref: Ref, header: dict[str, Any], made: list[Change], grant: Grant
) -> Response:
    if ref.kind != "heads":
        raise bad_request(f"{ref.full} is a pull request itself: one is opened against a branch")
    with repo.changing():
        base = repo.resolve(header["parent"] or ref.full)
        if all(c.id != base.id for c in repo.history(repo.resolve(ref.full))):
            raise stale_parent(ref)
        head = repo.record(
            changes.apply(made, repo.tree(base)),
            parents=(base.id,),
            author=grant.name,
            title=header["title"],
            description=header["description"],
        )
        opened = discussions.begin(
            repo,
            title=header["title"],
            author=grant.name,
            text=header["description"],
            status="open",
            commits=discussions.Proposed(base=base.id, head=head.id, target=ref.name),
        )
    return _answer(request, repo, head.id, pull_request=opened.number)


def _answer(request: Request, repo: LocalRepo, commit_id: str, *, pull_request: int | None = None) -> Response:
    page = f"{request.base}/{repo.path}"
    found = {"success": True, "commitOid": commit_id, "commitUrl": f"{page}/commit/{commit_id}", "hookOutput": ""}
    if pull_request is not None:
        found["pullRequestUrl"] = f"{page}/discussions/{pull_request}"
    return json_response(found)


def _may_land(request: Request, repo: LocalRepo, ref: Ref, grant: Grant) -> None:
    if ref.kind == "pr":
        opened = discussions.find(repo, int(ref.name))
        if opened.status in ("merged", "closed"):
            raise bad_request(f"pull request {ref.name} is {opened.status}")
        if opened.author == grant.name:
            return
    writer_to(request, repo)


def _lines(request: Request) -> Iterator[dict[str, Any]]:
    limits = request.hub.limits
    for count, line in enumerate(request.body.lines(most=limits.commit_body, longest=limits.commit_line)):
        if count > limits.commit_operations:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {limits.commit_operations} operations in one commit"
            )
        yield json_object(line)


def _header(line: dict[str, Any]) -> dict[str, Any]:
    value = line.get("value")
    if line.get("key") != "header" or not isinstance(value, dict):
        raise bad_request("the first line of a commit is its header")
    title = title_of(string(value, "summary"))
    parent = value.get("parentCommit")
    if parent is not None and not (isinstance(parent, str) and is_commit(parent)):
        raise bad_request("'parentCommit' is not a commit id")
    return {"title": title, "description": string(value, "description", ""), "parent": parent}


def _change(repo: LocalRepo, line: dict[str, Any]) -> Change:
    key, value = line.get("key"), line.get("value")
    if not isinstance(value, dict):
        raise bad_request("an operation of a commit has no 'value'")
    path = string(value, "path")
    if key == "deletedFolder":
        return changes.drop_folder(check_path(path.rstrip("/")))
    check_path(path)
    if key == "deletedFile":
        return changes.drop(path)
    if key == "file":
        return changes.put(regular_file(path, _content(repo, path, value)))
    if key == "lfsFile":
        return _lfs(repo, path, value)
    raise bad_request(f"the embedded Hub knows no operation {key!r}")


def _content(repo: LocalRepo, path: str, value: dict[str, Any]) -> bytes:
    if value.get("encoding") != "base64":
        raise bad_request(f"{path}: 'encoding' must be base64")
    try:
        content = base64.b64decode(string(value, "content"), validate=True)
    except (binascii.Error, ValueError):
        raise bad_request(f"{path}: the content is not base64") from None
    if path == "README.md" and (errors := front_matter.judge(content.decode(errors="replace")).errors):
        raise bad_request(f"Invalid metadata in README.md: {'; '.join(errors)}")
    repo.blobs.add(content)
    return content


def _lfs(repo: LocalRepo, path: str, value: dict[str, Any]) -> Change:
    sha256 = string(value, "oid")
    size = repo.blobs.size(sha256) if is_sha256(sha256) and repo.owns(sha256) else None
    if size is None or value.get("algo", "sha256") != "sha256":
        raise bad_request(f"{path}: its LFS content {sha256!r} was not uploaded to {repo.id}")
    if value.get("size", size) != size:
        raise bad_request(f"{path}: its LFS content has {size} bytes, not {value['size']}")
    put = changes.put(lfs_file(path, sha256=sha256, size=size))

    def change(files: dict[str, File]) -> None:
        if not repo.owns(sha256):  # asked again under the lock: it may have been deleted meanwhile
            raise bad_request(f"{path}: its LFS content {sha256!r} was deleted from {repo.id}")
        put(files)

    return change
