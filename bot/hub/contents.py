"""The content of a commit: files of this machine, bytes, and files of other repos, which the Hub copies itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bot import source
from bot.errors import AlteredDownloadError, HubRefusedError, RecordError, TokenError, UnknownModelError
from bot.hub.download import read_small
from bot.hub.errors import hub_errors
from bot.hub.repo import Repo
from bot.hub.server_text import safe_line
from bot.progress import Task
from bot.records.artifacts import SourceFile

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

_DUPLICATE = "/lfs-files/duplicate"
READ_BYTES = 10_000_000
_SMALL_BYTES = 10_000_000  # smaller files go up together


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """Content in a model repo of the same Hub, at a commit; ``file`` is how that commit lists it."""

    repo_id: str
    commit: str
    file: SourceFile

    @property
    def is_lfs(self) -> bool:
        """Say whether the Hub can copy it: a file that git itself holds is read and sent again."""
        return self.file.is_lfs


Content = Path | bytes | HubFile


@dataclass(frozen=True, kw_only=True)
class CommitContent:
    """Files to put into a repo and files to delete. False if there are none.

    ``kept`` are files that are there already.
    """

    adds: "tuple[CommitOperationAdd, ...]"
    copies: Mapping[str, HubFile]
    delete: tuple[str, ...]
    kept: Mapping[str, SourceFile]

    def __bool__(self) -> bool:
        return bool(self.adds or self.copies or self.delete)

    def against(self, there: Mapping[str, SourceFile]) -> "CommitContent":
        """Return what of it a repo lacks that holds these files."""
        adds = tuple(a for a in self.adds if not _is_added(a, there.get(a.path_in_repo)))
        copies = {p: f for p, f in self.copies.items() if not _is_same(f, there.get(p))}
        lacking = copies.keys() | {a.path_in_repo for a in adds}
        found = {*self.copies, *(a.path_in_repo for a in self.adds)} - lacking
        return CommitContent(
            adds=adds,
            copies=copies,
            delete=tuple(p for p in self.delete if p in there),
            kept={**self.kept, **{p: there[p] for p in found}},
        )

    def is_done(self, files: Mapping[str, SourceFile]) -> bool:
        """Say whether a repo with these files is as it would be after this change."""
        return not self.against(files) and all(files.get(p) == f for p, f in self.kept.items())

    def operations(self, target: Repo) -> "list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete]":
        """Return what huggingface_hub takes, for one attempt: it notes in a copy that its content was brought over."""
        from huggingface_hub import CommitOperationCopy, CommitOperationDelete

        def copy(path: str, found: HubFile) -> CommitOperationCopy:
            elsewhere = (found.repo_id, "model") != (target.id, target.type)
            return CommitOperationCopy(
                src_path_in_repo=found.file.path,
                path_in_repo=path,
                src_revision=found.commit,
                src_repo_id=found.repo_id if elsewhere else None,
                src_repo_type="model" if elsewhere else None,
            )

        copies = [copy(path, found) for path, found in self.copies.items()]
        return [*self.adds, *copies, *(CommitOperationDelete(path_in_repo=p, is_folder=False) for p in self.delete)]


def prepare(
    target: Repo,
    files: Mapping[str, Content],
    delete: Sequence[str],
    there: Mapping[str, SourceFile],
    reader: Callable[[str], Repo],
) -> CommitContent:
    """Return what a repo that holds the files ``there`` lacks. Sends nothing; reads small files of other repos.

    Raises UnsafeFileNameError, RecordError for a file above 10 MB that the Hub cannot copy, and AlteredDownloadError
    for one that is not what its commit lists.
    """
    from huggingface_hub import CommitOperationAdd

    adds, copies, kept = [], {}, {}
    for path, content in files.items():
        source.check_name(path, where=target.id)
        if isinstance(content, HubFile):
            if _is_same(content, there.get(path)):
                kept[path] = there[path]
                continue
            if content.is_lfs:
                copies[path] = content
                continue
        held = read(reader(content.repo_id), content.commit, content.file) if isinstance(content, HubFile) else content
        adds.append(CommitOperationAdd(path_in_repo=path, path_or_fileobj=held))
    gone = tuple(p for p in delete if p not in files)
    return CommitContent(adds=tuple(adds), copies=copies, delete=gone, kept=kept).against(there)


def check_sources(target: Repo, copies: Iterable[HubFile]) -> None:
    """Make sure that the Hub can copy these files for whoever writes to ``target``, and that they are what they were.

    Raises AlteredDownloadError for a file that is not as its commit listed it, and HubRefusedError for one that was
    uploaded before the Hub could copy.
    """
    from huggingface_hub.hf_api import RepoFile

    by_source = sorted(copies, key=lambda f: (f.repo_id, f.commit))
    for (repo_id, commit), group in groupby(by_source, key=lambda f: (f.repo_id, f.commit)):
        wanted = {f.file.path: f.file for f in group}
        try:
            with hub_errors(target.api.endpoint, repo_id, revision=commit):
                found = target.api.get_paths_info(repo_id, list(wanted), revision=commit)
        except (TokenError, UnknownModelError) as error:
            raise _unreadable_source(repo_id, target) from error
        listed = {f.path: f for f in found if isinstance(f, RepoFile)}
        for path, file in wanted.items():
            entry = listed.get(path)
            if entry is None or entry.lfs is None or f"sha256:{entry.lfs.sha256}" != file.digest:
                raise AlteredDownloadError(
                    f"{path} of {repo_id} is not what commit {commit} listed ({file.size} bytes, {file.digest})",
                    hint="Nothing was copied. Run the same command again; if it happens again, report it to the Hub.",
                )
            if not entry.xet_hash:
                raise HubRefusedError(
                    f"{path} of {repo_id} is kept in the Hub's old storage, out of which it copies nothing",
                    hint=f"Delete {path} there and upload it again.",
                )


@contextmanager
def copying(target: Repo) -> Iterator[None]:
    """Raise errors of ours where the Hub does not copy what a commit in the block needs."""
    from huggingface_hub.errors import FileDuplicationError, HfHubHTTPError

    try:
        yield
    except FileDuplicationError as error:
        raise HubRefusedError(
            f"the Hub did not copy all files to {target.id}: {safe_line(str(error))}",
            hint="It copies within one storage region alone: are both repos in the same one?",
        ) from error
    except HfHubHTTPError as error:
        path = error.response.request.url.path
        if path.endswith(_DUPLICATE) and error.response.status_code in (401, 403, 404):
            source_id = path.removesuffix(_DUPLICATE).removeprefix("/api/models/")
            raise _unreadable_source(source_id, target) from error
        raise


def upload(
    repo: Repo, change: CommitContent, task: Task, *, revision: str | None = None, create_pr: bool = False
) -> None:
    """Send the content of large files ahead, one after the other. Content that the Hub has is not sent again."""
    done, total = 0, sum(a.upload_info.size for a in change.adds)
    small = [a for a in change.adds if a.upload_info.size < _SMALL_BYTES]
    large = [a for a in change.adds if a.upload_info.size >= _SMALL_BYTES]
    for group in (small, *([a] for a in large)):
        if group:
            task.update(f"uploading {group[-1].path_in_repo}", done, total, "bytes")
            repo.api.preupload_lfs_files(
                repo.id,
                additions=group,
                repo_type=repo.type,
                revision=revision,
                create_pr=create_pr,
                free_memory=False,
            )
            done += sum(a.upload_info.size for a in group)
    task.update("committing", done, total, "bytes")


def read(repo: Repo, commit: str, file: SourceFile) -> bytes:
    """Return the content of a small file, checked. Raises RecordError above 10 MB, and AlteredDownloadError."""
    if file.size > READ_BYTES:
        raise unreadable(repo, file.path, f"has {file.size} bytes")
    return read_small(repo, commit, file)


def unreadable(repo: Repo, name: str, what: str) -> RecordError:
    """Return the error for a file of the bot's own that makes no sense."""
    return RecordError(
        f"{name} of {repo.id} {what}",
        hint="Was it written by another version of phi-bot, or by hand? Nothing in the repo is changed.",
    )


def _unreadable_source(repo_id: str, target: Repo) -> TokenError:
    return TokenError(
        f"the token that writes to {target.id} cannot read {repo_id}, out of which files are to be copied",
        hint=f"Make {repo_id} public, or set HF_TOKEN to a token that may read it (without Trusted Publishers).",
    )


def _is_same(content: HubFile, file: SourceFile | None) -> bool:
    return file is not None and (file.size, file.digest) == (content.file.size, content.file.digest)


def _is_added(add: "CommitOperationAdd", file: SourceFile | None) -> bool:
    if file is None or file.size != add.upload_info.size:
        return False
    if file.is_lfs:
        return file.digest == f"sha256:{add.upload_info.sha256.hex()}"
    with add.as_file() as stream:
        return source.bytes_digest(stream.read(), lfs=False) == file.digest
