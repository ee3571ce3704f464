"""Commits on the Hub: what a published repo holds, and one commit for all that changes in it."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

from bot.errors import ForeignRepoError
from bot.hub.contents import CommitContent, Content, HubFile, check_sources, copying, prepare, read, unreadable, upload
from bot.hub.errors import conflict
from bot.hub.repo import Repo
from bot.hub.retry import exactly_once
from bot.progress import Task
from bot.records.artifacts import RECORD_VERSION, RepoRecord, SourceFile
from bot.source.strict import parse_object

__all__ = ["RECORD_FILE", "UNTOUCHED", "HubFile", "commit", "commit_once", "head_of", "read_files", "record"]

RECORD_FILE = "phi-bot.json"
UNTOUCHED = frozenset({".gitattributes", "README.md"})  # all that a repo has before anything is published in it


def record(repo: Repo) -> tuple[RepoRecord, str] | None:
    """Return what is published in a repo, and the commit that says so; None if there is no such repo."""
    found = head_of(repo)
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
    content = read(repo, head, files[RECORD_FILE])
    try:
        return RepoRecord.from_json(parse_object(content)), head
    except ValueError as error:
        raise unreadable(repo, RECORD_FILE, str(error)) from error


def current_id(repo: Repo) -> str:
    """Return a repo's id as the Hub has it: it leads from other spellings, and from a former name, to the one."""
    return str(repo.api.repo_info(repo.id, repo_type=repo.type).id)


def is_private(repo: Repo) -> bool:
    """Say whether a repo is private; True for one that is not there (yet)."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return bool(repo.api.repo_info(repo.id, repo_type=repo.type).private)
    except RepositoryNotFoundError:
        return True


def read_files(repo: Repo, names: Sequence[str]) -> tuple[dict[str, bytes], str] | None:
    """Return the content of those of the files that are there, and the head; None if there is no such repo.

    Raises RecordError for a file of more than 10 MB: what a bot remembers is small.
    """
    found = head_of(repo)
    if found is None:
        return None
    head, files = found
    return {name: read(repo, head, files[name]) for name in names if name in files}, head


def commit(
    repo: Repo,
    *,
    files: Mapping[str, Content],
    delete: Sequence[str],
    parent: str | None,
    message: str,
    private: bool,
    task: Task,
    reader: Callable[[str], Repo],
) -> str:
    """Put files into a repo and take others out of it, in one commit on top of ``parent``; return that commit.

    Without a parent the repo is made. If all of it is there already, nothing is committed and the parent is returned.
    Raises ConflictError when the head is not (or no longer) the parent.
    """
    there: Mapping[str, SourceFile] = {} if parent is None else repo.files(parent)
    change = prepare(repo, files, delete, there, reader)
    check_sources(repo, change.copies.values())
    if parent is None:
        parent, there = _new_repo(repo, private=private)
        change = change.against(there)
    if not change:
        return parent
    upload(repo, change, task)
    return commit_once(repo, change, parent=parent, message=message)


def upload_ahead(repo: Repo, files: Mapping[str, Path], *, private: bool) -> None:
    """Send the content of files that a later commit is to hold. Without a repo, it is made.

    Content that no commit names changes nothing in a repo, so whether it is ours is left to that commit.
    """
    from huggingface_hub import CommitOperationAdd

    if head_of(repo) is None:
        _new_repo(repo, private=private)
    adds = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()]
    repo.api.preupload_lfs_files(repo.id, additions=adds, repo_type=repo.type, free_memory=False)


def commit_once(repo: Repo, change: CommitContent, *, parent: str, message: str, revision: str | None = None) -> str:
    """Make the commit exactly once: when an answer is lost, the head tells whether the commit was made.

    ``revision`` is the branch or pull request that ``parent`` is the head of, main without one.
    """

    def landed() -> str | None:
        head, files = repo.head(revision)
        return head if head != parent and change.is_done(files) else None

    def send() -> str:
        with copying(repo):
            made = repo.api.create_commit(
                repo.id,
                operations=change.operations(repo),
                commit_message=message,
                parent_commit=parent,
                repo_type=repo.type,
                revision=revision,
            )
        return made.oid

    return exactly_once(send, landed)


def head_of(repo: Repo, revision: str | None = None) -> tuple[str, dict[str, SourceFile]] | None:
    """Return what ``Repo.head`` does, None if there is no such repo."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return repo.head(revision)
    except GatedRepoError:  # says that there is one
        raise
    except RepositoryNotFoundError:
        return None


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
