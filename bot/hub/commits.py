"""Commits on the Hub: what a published repo holds, and one commit for all that changes in it."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from bot import source
from bot.errors import ForeignRepoError, RecordError
from bot.hub.download import read_small
from bot.hub.failures import PAUSES, conflict, is_passing, patiently
from bot.hub.releases import commit_of, list_files
from bot.progress import Task
from bot.records import RECORD_VERSION, MalformedRecordError, RepoRecord, SourceFile
from bot.source.config import parse_object

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

RECORD_FILE = "phi-bot.json"

_RECORD_BYTES = 10_000_000
_SMALL_BYTES = 10_000_000  # smaller files go up together
_UNTOUCHED = frozenset({".gitattributes", "README.md"})  # all that a repo has before anything is published in it


def record(api: "HfApi", repo_id: str) -> tuple[RepoRecord, str] | None:
    """Return what is published in a repo, and the commit that says so; None if there is no such repo."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        head, files = _head(api, repo_id)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None
    if RECORD_FILE not in files:
        if files.keys() <= _UNTOUCHED:  # just made, perhaps by a publish that was interrupted
            return RepoRecord(version=RECORD_VERSION, builds=()), head
        raise ForeignRepoError(
            f"{repo_id} holds files that phi-bot did not put there",
            hint=f"Nothing in it is changed. Publish in another namespace, or rename {repo_id}.",
        )
    file = files[RECORD_FILE]
    if file.size > _RECORD_BYTES:
        raise _no_record(repo_id, f"has {file.size} bytes")
    try:
        return RepoRecord.from_json(parse_object(read_small(api, repo_id, head, file))), head
    except (MalformedRecordError, ValueError) as error:
        raise _no_record(repo_id, str(error)) from error


def commit(
    api: "HfApi",
    repo_id: str,
    *,
    files: Mapping[str, Path | bytes],
    delete: Sequence[str],
    parent: str | None,
    message: str,
    private: bool,
    task: Task,
) -> str:
    """Put files into a repo and take others out of it, in one commit on top of ``parent``; return that commit.

    Without a parent the repo is made. If all of it is there already, nothing is committed and the parent is returned.
    Raises ConflictError when the head is not (or no longer) the parent.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    adds = [
        CommitOperationAdd(path_in_repo=source.check_name(path, where=repo_id), path_or_fileobj=content)
        for path, content in files.items()
    ]
    delete = [path for path in delete if path not in files]
    if parent is None:
        parent, there = _new_repo(api, repo_id, private=private)
    else:
        there = _files(api, repo_id, parent)
    changed = [a for a in adds if not _is_there(a, there)]
    gone = [path for path in delete if path in there]
    if not changed and not gone:
        return parent
    _upload(api, repo_id, changed, task)
    removals = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in gone]
    return _commit_once(api, repo_id, [*changed, *removals], adds, delete, parent, message)


def _new_repo(api: "HfApi", repo_id: str, *, private: bool) -> tuple[str, dict[str, SourceFile]]:
    """Make a repo, and return its first commit and what is in it."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        patiently(lambda: api.create_repo(repo_id, private=private))
    except HfHubHTTPError as error:
        if error.response.status_code != HTTPStatus.CONFLICT:
            raise  # with exist_ok, the library stumbles over a refusal by any Hub but huggingface.co
    head, files = _head(api, repo_id)
    if not files.keys() <= _UNTOUCHED:
        raise conflict(repo_id)
    return head, files


def _upload(api: "HfApi", repo_id: str, adds: "Sequence[CommitOperationAdd]", task: Task) -> None:
    """Send the content of large files ahead, one after the other. What the Hub has already is not sent again."""
    done, total = 0, sum(a.upload_info.size for a in adds)
    small = [a for a in adds if a.upload_info.size < _SMALL_BYTES]
    large = [a for a in adds if a.upload_info.size >= _SMALL_BYTES]
    for group in (small, *([a] for a in large)):
        if group:
            task.update(f"uploading {group[-1].path_in_repo}", done, total, "bytes")
            api.preupload_lfs_files(repo_id, additions=group, free_memory=False)
            done += sum(a.upload_info.size for a in group)
    task.update("committing", done, total, "bytes")


def _commit_once(
    api: "HfApi",
    repo_id: str,
    operations: "Sequence[CommitOperationAdd | CommitOperationDelete]",
    adds: "Sequence[CommitOperationAdd]",
    delete: Sequence[str],
    parent: str,
    message: str,
) -> str:
    """Make the commit exactly once, although the answer to a request may be lost.

    When it is, the head tells whether the commit was made; if it was not, the parent makes it safe to ask again.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for pause in (*PAUSES, None):
        try:
            return api.create_commit(repo_id, operations=operations, commit_message=message, parent_commit=parent).oid
        except Exception as error:
            stale = isinstance(error, HfHubHTTPError) and error.response.status_code == HTTPStatus.PRECONDITION_FAILED
            if not stale and not is_passing(error):
                raise
            made = _made(api, repo_id, adds, delete, parent)
            if made is not None:
                return made
            if stale:
                raise conflict(repo_id) from error
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError  # the last round returns or raises


def _made(
    api: "HfApi", repo_id: str, adds: "Sequence[CommitOperationAdd]", delete: Sequence[str], parent: str
) -> str | None:
    """Return the head if it holds all that was to be committed, None if it is still the parent or cannot be asked."""
    with suppress(Exception):  # the error that led here says more than this one
        head, files = _head(api, repo_id)
        if head != parent and all(_is_there(a, files) for a in adds) and not files.keys() & set(delete):
            return head
    return None


def _head(api: "HfApi", repo_id: str) -> tuple[str, dict[str, SourceFile]]:
    head = commit_of(patiently(lambda: api.model_info(repo_id)), api.endpoint)
    return head, _files(api, repo_id, head)


def _files(api: "HfApi", repo_id: str, commit: str) -> dict[str, SourceFile]:
    return {f.path: f for f in list_files(api, repo_id, commit)}


def _is_there(add: "CommitOperationAdd", files: Mapping[str, SourceFile]) -> bool:
    file = files.get(add.path_in_repo)
    if file is None or file.size != add.upload_info.size:
        return False
    if file.digest.startswith("sha256:"):
        return file.digest == f"sha256:{add.upload_info.sha256.hex()}"
    with add.as_file() as stream:
        return source.bytes_digest(stream.read(), lfs=False) == file.digest


def _no_record(repo_id: str, what: str) -> RecordError:
    return RecordError(
        f"{RECORD_FILE} of {repo_id} {what}",
        hint="Was it written by another version of phi-bot, or by hand? Nothing in the repo is changed.",
    )
