"""Pull requests on the Hub: what would be published, to be tried at ``refs/pr/N`` before it is merged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from bot.errors import ConflictError, HubRefusedError
from bot.hub.commits import commit_once
from bot.hub.contents import CommitContent, Content, check_sources, copying, prepare, upload
from bot.hub.repo import Repo, account_of
from bot.hub.retry import exactly_once
from bot.progress import Task
from bot.records.artifacts import Record

if TYPE_CHECKING:
    from huggingface_hub import DiscussionWithDetails


@dataclass(frozen=True, kw_only=True)
class HubPull(Record):
    """A pull request on the Hub. Its commits are at ``refs/pr/NUMBER``; anybody may have written the title."""

    number: int
    title: str
    author: str
    status: str

    @property
    def revision(self) -> str:
        """Where its commits are."""
        return revision_of(self.number)


def revision_of(number: int) -> str:
    """Return where the commits of a pull request are."""
    return f"refs/pr/{number}"


def mine(repo: Repo) -> list[HubPull]:
    """Return the open pull requests of the token's account, newest first; none if there is no such repo."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    account = account_of(repo.api)
    try:
        found = list(
            repo.api.get_repo_discussions(
                repo.id,
                author=account,
                discussion_type="pull_request",
                discussion_status="open",
                repo_type=repo.type,
            )
        )
    except GatedRepoError:  # says that there is one
        raise
    except RepositoryNotFoundError:
        return []
    pulls = (HubPull(number=d.num, title=d.title, author=d.author, status=d.status) for d in found)
    # The filters are the Hub's to apply; what is merged later rests on whose a pull request is.
    return sorted((p for p in pulls if p.author == account), key=lambda p: -p.number)


def propose(
    repo: Repo,
    *,
    files: Mapping[str, Content],
    delete: Sequence[str],
    parent: str,
    title: str,
    description: str,
    task: Task,
    reader: Callable[[str], Repo],
) -> int:
    """Open a pull request with one commit on top of ``parent``; return its number. See ``Hub.propose``."""
    change = prepare(repo, files, delete, repo.files(parent), reader)
    if not change:
        raise HubRefusedError(f"{repo.id} holds all of it already", hint="There is nothing to propose.")
    title = " ".join(title.split())  # as the Hub keeps it

    def landed() -> int | None:
        same = (p for p in mine(repo) if p.title == title)
        return next((p.number for p in same if change.is_done(repo.head(p.revision)[1])), None)

    def send() -> int:
        with copying(repo):
            made = repo.api.create_commit(
                repo.id,
                operations=change.operations(repo),
                commit_message=title,
                commit_description=description,
                parent_commit=parent,
                repo_type=repo.type,
                create_pr=True,
            )
        if made.pr_num is None:
            raise HubRefusedError(
                f"{repo.api.endpoint} opened no pull request in {repo.id}", hint="Is it a Hugging Face Hub?"
            )
        return int(made.pr_num)

    there = landed()
    if there is not None:
        return there
    check_sources(repo, change.copies.values())
    upload(repo, change, task, create_pr=True)
    return exactly_once(send, landed)


def update(
    repo: Repo,
    number: int,
    *,
    files: Mapping[str, Content],
    delete: Sequence[str],
    message: str,
    task: Task,
    reader: Callable[[str], Repo],
) -> str:
    """Put a further commit onto an open pull request; return its head. See ``Hub.update_proposal``."""
    revision = revision_of(number)
    head, there = repo.head(revision)
    change: CommitContent = prepare(repo, files, delete, there, reader)
    if not change:
        return head
    check_sources(repo, change.copies.values())
    upload(repo, change, task, revision=revision)
    return commit_once(repo, change, parent=head, message=message, revision=revision)


def merge(repo: Repo, number: int, comment: str, *, commit: str | None) -> str:
    """Merge a pull request, if that is not done yet; return the commit on main. See ``Hub.merge``."""
    from huggingface_hub.errors import HfHubHTTPError

    found = _details(repo, number)
    if found.status == "merged":
        return _merged(repo, found)
    if found.status != "open":
        raise HubRefusedError(
            f"pull request {number} of {repo.id} is {found.status}", hint="Open it again on the Hub, or propose anew."
        )
    if found.conflicting_files:
        raise _conflicting(repo, number)
    if commit is not None and repo.head(revision_of(number))[0] != commit:
        raise ConflictError(
            f"somebody changed pull request {number} of {repo.id} since it was checked",
            hint="Look at its commits on the Hub, then run the same command again.",
        )

    def landed() -> bool | None:
        return _details(repo, number).status == "merged" or None

    def send() -> bool:
        repo.api.merge_pull_request(repo.id, number, comment=comment, repo_type=repo.type)
        return True

    try:
        exactly_once(send, landed)
    except HfHubHTTPError as error:
        if not landed():  # somebody merged it at the same moment, or we did, and the answer was lost
            if error.response.status_code in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
                raise _conflicting(repo, number) from error
            raise
    return _merged(repo, _details(repo, number))


def close(repo: Repo, number: int, comment: str) -> str:
    """Close a pull request, if it is open; return its status then. See ``Hub.close``."""
    from huggingface_hub.errors import HfHubHTTPError

    def over() -> str | None:
        status = str(_details(repo, number).status)
        return status if status in ("closed", "merged") else None

    def send() -> str:
        repo.api.change_discussion_status(repo.id, number, "closed", comment=comment, repo_type=repo.type)
        return "closed"

    if (status := over()) is not None:
        return status
    try:
        return exactly_once(send, over)
    except HfHubHTTPError:
        if (status := over()) is not None:  # merged at the same moment
            return status
        raise


def _details(repo: Repo, number: int) -> "DiscussionWithDetails":
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        found = repo.api.get_discussion_details(repo.id, number, repo_type=repo.type)
    except HfHubHTTPError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND or isinstance(error, RepositoryNotFoundError):
            raise
        raise _no_pull(repo, number) from error
    if not found.is_pull_request:
        raise _no_pull(repo, number)
    return found


def _merged(repo: Repo, found: "DiscussionWithDetails") -> str:
    return found.merge_commit_oid or repo.head()[0]


def _no_pull(repo: Repo, number: int) -> HubRefusedError:
    return HubRefusedError(
        f"{repo.id} has no pull request {number}", hint=f"They are at {repo.api.endpoint}/{repo.id}/discussions."
    )


def _conflicting(repo: Repo, number: int) -> ConflictError:
    return ConflictError(
        f"pull request {number} of {repo.id} cannot be merged: main changed in the same files",
        hint="Close it and propose anew, from what main holds now.",
    )
