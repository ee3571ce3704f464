"""One repo on disk: settings, refs, commits, trees, and which LFS files it may use."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from bot.localhub import names
from bot.localhub.blobs import Blobs
from bot.localhub.durable import Scratch, locked, read_json, sync_folder
from bot.localhub.objects import Commit, File, Tree, folder_ids, make_commit, make_tree
from bot.localhub.refused import RefusedError, bad_request, conflict, not_found
from bot.localhub.settings import Settings

RefKind = Literal["heads", "tags", "pr"]


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A name that moves from commit to commit."""

    kind: RefKind
    name: str

    @property
    def full(self) -> str:
        """The whole name: ``refs/heads/main``."""
        return f"refs/{self.kind}/{self.name}"


MAIN = Ref(kind="heads", name="main")


@dataclass(frozen=True, kw_only=True)
class LocalRepo:
    """A repo in ``folder``. Reading needs no lock: what is read never changes, or changes in one step."""

    type: str
    namespace: str
    name: str
    folder: Path
    lock_file: Path
    blobs: Blobs
    scratch: Scratch

    @property
    def id(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """The path of its pages, below the Hub's address."""
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    # ---- settings --------------------------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Return the settings; a 404 when the repo was deleted meanwhile."""
        try:
            return Settings.from_json(read_json(self.folder / "repo.json"))
        except FileNotFoundError:
            raise not_found("RepoNotFound", f"{self.id} was deleted") from None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the repo's lock, under which everything of a repo is written; a 404 when the repo was deleted."""
        with locked(self.lock_file):
            self.settings()
            yield

    def change_settings(self, change: Callable[[Settings], Settings]) -> None:
        """Replace the settings by what ``change`` makes of them."""
        with self.changing():
            self.scratch.write_json(self.folder / "repo.json", change(self.settings()).to_json())

    # ---- refs ------------------------------------------------------------------------------------------------

    def refs(self, kind: RefKind) -> dict[str, str]:
        """Return the commit of each branch, tag or pull request, by name."""
        folder = self.folder / "refs" / kind
        if not folder.is_dir():
            return {}
        found = {}
        for name in sorted(names.from_file_name(f.name) for f in folder.iterdir()):
            if commit := self.target(Ref(kind=kind, name=name)):  # it may be deleted at this moment
                found[name] = commit
        return found

    def target(self, ref: Ref) -> str | None:
        """Return the commit that a ref names, or None when there is no such ref."""
        path = self._ref_file(ref)
        try:
            return path.read_text() if len(path.name) <= names.MAX_REF else None
        except FileNotFoundError:
            return None

    def point(self, ref: Ref, commit: str) -> None:
        """Let a ref name a commit that is on disk. The caller holds the lock."""
        self.scratch.write(self._ref_file(ref), commit.encode())

    def create_ref(self, ref: Ref, commit: str) -> None:
        """Make a branch or a tag; a 409 when there is one."""
        names.check_ref_name(ref.name)
        with self.changing():
            if self.target(ref) is not None:
                raise conflict(f"Reference {ref.full} already exists")
            self.point(ref, commit)

    def delete_ref(self, ref: Ref) -> None:
        """Remove a branch or a tag; a 404 when there is none."""
        if ref == MAIN:
            raise bad_request(f"Cannot delete {ref.full}")
        with self.changing():
            if self.target(ref) is None:
                raise unknown_revision(ref.full)
            self._ref_file(ref).unlink()
            sync_folder(self._ref_file(ref).parent)

    def find_ref(self, revision: str) -> Ref | None:
        """Return the branch, tag or pull request that a person means, or None."""
        prefix, _, rest = revision.partition("/")
        kind, _, name = rest.partition("/")
        if prefix == "refs" and kind in ("heads", "tags", "pr") and name:
            found = Ref(kind=kind, name=name)  # type: ignore[arg-type]
            return found if self.target(found) else None
        return next(
            (r for r in (Ref(kind="heads", name=revision), Ref(kind="tags", name=revision)) if self.target(r)), None
        )

    def resolve(self, revision: str) -> Commit:
        """Return the commit of a branch, a tag, a pull request or a commit id, of which the beginning is enough."""
        if names.is_commit(revision):
            return self.commit(revision)
        ref = self.find_ref(revision)
        commit = self.target(ref) if ref else self._beginning_with(revision)
        if commit is None:
            raise unknown_revision(revision)
        return self.commit(commit)

    def _beginning_with(self, short: str) -> str | None:
        """Return the one commit whose id begins so, or None where there is none, or more than one."""
        if not names.is_short_commit(short):
            return None
        found = [f.stem for f in (self.folder / "commits").glob(f"{short}*.json")]
        return found[0] if len(found) == 1 else None

    def _ref_file(self, ref: Ref) -> Path:
        return self.folder / "refs" / ref.kind / names.to_file_name(ref.name)

    # ---- commits and trees -----------------------------------------------------------------------------------

    def commit(self, commit_id: str) -> Commit:
        """Return a commit by its whole id."""
        try:
            return Commit.from_json(read_json(self.folder / "commits" / f"{commit_id}.json"))
        except FileNotFoundError:
            raise unknown_revision(f"{self.id} has no commit {commit_id}") from None

    def tree(self, commit: Commit) -> Tree:
        """Return the files of a commit."""
        try:
            return _remembered_tree(self._tree_file(commit.tree_id))
        except FileNotFoundError:
            raise not_found("RepoNotFound", f"{self.id} was deleted") from None

    def tree_on_disk(self, commit: Commit) -> Tree:
        """Return the files of a commit as the disk has them now, for whoever doubts it."""
        return _read_tree(self._tree_file(commit.tree_id))

    def history(self, commit: Commit) -> Iterator[Commit]:
        """Yield a commit and what came before it, newest first."""
        yield commit
        while commit.parents:
            commit = self.commit(commit.parents[0])
            yield commit

    def file(self, commit: Commit, path: str) -> File:
        """Return a file of a commit; a 404 when it has none of that name."""
        found = self.tree(commit).get(path)
        if found is None:
            raise not_found("EntryNotFound", f"{self.id} has no {path} at {commit.id}", commit=commit.id)
        return found

    def record(
        self,
        files: Tree,
        *,
        parents: tuple[str, ...],
        author: str,
        title: str,
        description: str,
        date: int | None = None,
    ) -> Commit:
        """Write a tree and a commit of now, or of another ``date``, that no ref names yet."""
        tree_id = folder_ids(files)[""]
        tree_file = self._tree_file(tree_id)
        if not tree_file.exists():
            self.scratch.write_json(tree_file, [f.to_json() for f in files.values()])
        commit = make_commit(
            tree_id=tree_id,
            parents=parents,
            author=author,
            date=int(time.time()) if date is None else date,
            title=title,
            description=description,
        )
        self.scratch.write_json(self.folder / "commits" / f"{commit.id}.json", commit.to_json())
        return commit

    def land(
        self, ref: Ref, change: Callable[[Tree], Tree], *, parent: str | None, author: str, title: str, description: str
    ) -> Commit:
        """Put one commit on a ref: the caller holds the lock.

        ``parent`` is the commit that the author saw; another head is a 412. A change that changes nothing makes no
        commit: a request that is sent twice is done once.
        """
        head = self.resolve(ref.full)
        if parent is not None and parent != head.id:
            raise stale_parent(ref)
        files = change(self.tree(head))
        if folder_ids(files)[""] == head.tree_id:
            return head
        commit = self.record(files, parents=(head.id,), author=author, title=title, description=description)
        self.point(ref, commit.id)
        return commit

    def _tree_file(self, tree_id: str) -> Path:
        return self.folder / "trees" / f"{tree_id}.json"

    # ---- LFS files -------------------------------------------------------------------------------------------

    def owns(self, sha256: str) -> bool:
        """Say whether an LFS file was uploaded or copied to this repo: knowing a hash gives no right to its content."""
        return (self.folder / "lfs" / sha256).exists()

    def own(self, sha256: str) -> None:
        """Remember that a blob that is on disk belongs to this repo; a 404 when it went meanwhile."""
        with self.changing():
            if not self.blobs.keep(sha256):
                raise not_found("EntryNotFound", f"the content {sha256} is gone: upload it again")
            folder = self.folder / "lfs"
            folder.mkdir(exist_ok=True)
            (folder / sha256).touch()
            sync_folder(folder)
            self._deleted(sha256).unlink(missing_ok=True)

    def owned(self) -> dict[str, int]:
        """Return the LFS files that belong to this repo, and since when (seconds since 1970)."""
        folder = self.folder / "lfs"
        return {f.name: int(f.stat().st_mtime) for f in folder.iterdir()} if folder.is_dir() else {}

    def disown(self, doomed: Iterable[str], *, forgotten: bool) -> None:
        """Let LFS files belong to this repo no longer. The caller holds the lock.

        Unless they are ``forgotten`` by every commit, it stays known that they were deleted, and are not lost.
        """
        for sha256 in doomed:
            if self.owns(sha256):
                if not forgotten:
                    self.scratch.write(self._deleted(sha256), b"")
                (self.folder / "lfs" / sha256).unlink()
        if (self.folder / "lfs").is_dir():
            sync_folder(self.folder / "lfs")

    def has_deleted(self, sha256: str) -> bool:
        """Say whether commits may name an LFS file that was deleted for good."""
        return self._deleted(sha256).exists()

    def _deleted(self, sha256: str) -> Path:
        return self.folder / "deleted" / sha256


def stale_parent(ref: Ref) -> RefusedError:
    """Return the answer to a commit whose author saw an older head."""
    message = "The branch was updated since you opened this page. Please refresh and try again."
    return RefusedError(HTTPStatus.PRECONDITION_FAILED, f"{message} ({ref.full})")


def unknown_revision(revision: str) -> RefusedError:
    """Return the answer to a name that is of no branch, tag, pull request or commit."""
    return not_found("RevisionNotFound", f"Invalid rev id: {revision}")


def _read_tree(path: Path) -> Tree:
    return make_tree(File.from_json(f) for f in read_json(path))


_remembered_tree = lru_cache(maxsize=256)(_read_tree)  # a tree never changes
