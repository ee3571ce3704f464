"""Commits on the Hub: what a published repo holds, and one commit for all that changes in it."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from bot import source
from bot.errors import ForeignRepoError, RecordError
from bot.hub.download import read_small
from bot.hub.failures import conflict
from bot.hub.patience import once
from bot.hub.repo import Repo
from bot.progress import Task
from bot.records import RECORD_VERSION, MalformedRecordError, RepoRecord, SourceFile
from bot.source.config import parse_object

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

RECORD_FILE = "phi-bot.json"

_READ_BYTES = 10_000_000
_SMALL_BYTES = 10_000_000  # smaller files go up together
UNTOUCHED = frozenset({".gitattributes", "README.md"})  # all that a repo has before anything is published in it


def record(repo: Repo) -> tuple[RepoRecord, str] | None:
    """Return what is published in a repo, and the commit that says so; None if there is no such repo."""
    found = _head(repo)
    if found is None:
        return None
    head, files = found
    if RECORD_FILE not in files:
        if files.keys() <= UNTOUCHED:  # just made, perhaps by a publish that was interrupted
            return RepoRecord(version=RECORD_VERSION, builds=()), head
        raise ForeignRepoError(
            f"{repo.id} holds files that phi-bot did not put there",
            hint=f"Nothing in it is changed. Publish in another namespace, or rename {repo.id}.",
        )
    content = _read(repo, head, files[RECORD_FILE])
    try:
        return RepoRecord.from_json(parse_object(content)), head
    except (MalformedRecordError, ValueError) as error:
        raise _unreadable(repo, RECORD_FILE, str(error)) from error


def read_files(repo: Repo, names: Sequence[str]) -> tuple[dict[str, bytes], str] | None:
    """Return the content of those of the files that are there, and the head; None if there is no such repo.

    Raises RecordError for a file of more than 10 MB: what a bot remembers is small.
    """
    found = _head(repo)
    if found is None:
        return None
    head, files = found
    return {name: _read(repo, head, files[name]) for name in names if name in files}, head


def commit(
    repo: Repo,
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
        CommitOperationAdd(path_in_repo=source.check_name(path, where=repo.id), path_or_fileobj=content)
        for path, content in files.items()
    ]
    delete = [path for path in delete if path not in files]
    if parent is None:
        parent, there = _new_repo(repo, private=private)
    else:
        there = repo.files(parent)
    changed = [a for a in adds if not _is_there(a, there)]
    gone = [path for path in delete if path in there]
    if not changed and not gone:
        return parent
    _upload(repo, changed, task)
    removals = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in gone]
    return _commit_once(repo, [*changed, *removals], adds, delete, parent, message)


def _new_repo(repo: Repo, *, private: bool) -> tuple[str, Mapping[str, SourceFile]]:
    """Make a repo, and return its first commit and what is in it."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        repo.api.create_repo(repo.id, private=private, repo_type=repo.type)
    except HfHubHTTPError as error:
        if error.response.status_code != HTTPStatus.CONFLICT:
            raise  # with exist_ok, the library stumbles over a refusal by any Hub but huggingface.co
    head, files = repo.head()
    if not files.keys() <= UNTOUCHED:
        raise conflict(repo.id)
    return head, files


def _upload(repo: Repo, adds: "Sequence[CommitOperationAdd]", task: Task) -> None:
    """Send the content of large files ahead, one after the other. What the Hub has already is not sent again."""
    done, total = 0, sum(a.upload_info.size for a in adds)
    small = [a for a in adds if a.upload_info.size < _SMALL_BYTES]
    large = [a for a in adds if a.upload_info.size >= _SMALL_BYTES]
    for group in (small, *([a] for a in large)):
        if group:
            task.update(f"uploading {group[-1].path_in_repo}", done, total, "bytes")
            repo.api.preupload_lfs_files(repo.id, additions=group, repo_type=repo.type, free_memory=False)
            done += sum(a.upload_info.size for a in group)
    task.update("committing", done, total, "bytes")


def _commit_once(
    repo: Repo,
    operations: "Sequence[CommitOperationAdd | CommitOperationDelete]",
    adds: "Sequence[CommitOperationAdd]",
    delete: Sequence[str],
    parent: str,
    message: str,
) -> str:
    """Make the commit exactly once: when an answer is lost, the head tells whether the commit was made."""

    def landed() -> str | None:
        head, files = repo.head()
        there = all(_is_there(a, files) for a in adds) and not files.keys() & set(delete)
        return head if head != parent and there else None

    def send() -> str:
        made = repo.api.create_commit(
            repo.id, operations=operations, commit_message=message, parent_commit=parent, repo_type=repo.type
        )
        return made.oid

    return once(send, landed)


def _head(repo: Repo) -> tuple[str, Mapping[str, SourceFile]] | None:
    """Return what ``Repo.head`` does, None if there is no such repo."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return repo.head()
    except GatedRepoError:  # says that there is one
        raise
    except RepositoryNotFoundError:
        return None


def _is_there(add: "CommitOperationAdd", files: Mapping[str, SourceFile]) -> bool:
    file = files.get(add.path_in_repo)
    if file is None or file.size != add.upload_info.size:
        return False
    if file.digest.startswith("sha256:"):
        return file.digest == f"sha256:{add.upload_info.sha256.hex()}"
    with add.as_file() as stream:
        return source.bytes_digest(stream.read(), lfs=False) == file.digest


def _read(repo: Repo, commit: str, file: SourceFile) -> bytes:
    if file.size > _READ_BYTES:
        raise _unreadable(repo, file.path, f"has {file.size} bytes")
    return read_small(repo, commit, file)


def _unreadable(repo: Repo, name: str, what: str) -> RecordError:
    return RecordError(
        f"{name} of {repo.id} {what}",
        hint="Was it written by another version of phi-bot, or by hand? Nothing in the repo is changed.",
    )
