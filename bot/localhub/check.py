"""Check an embedded Hub's folder: everything in it is what its name says."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from bot.localhub.blobs import CHUNK
from bot.localhub.discussions import list_all
from bot.localhub.objects import folder_ids, make_commit
from bot.localhub.refused import RefusedError
from bot.localhub.repo import LocalRepo
from bot.localhub.store import LocalHub


def check(folder: Path) -> list[str]:
    """Return what is wrong in a Hub's folder, one line each: every ref, commit, tree and blob is read and hashed."""
    with LocalHub(folder) as hub:
        wrong = list(_blobs(hub.blobs.folder))
        for repo_type in ("model", "dataset"):
            for repo in hub.repos(repo_type):
                wrong += _repo(repo)
    return wrong


def _blobs(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*/*")):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != path.name or path.parent.name != path.name[:2]:
            yield f"blob {path.name}: its content has sha256 {digest.hexdigest()}"


def _repo(repo: LocalRepo) -> Iterator[str]:
    try:
        repo.settings()
        seen: set[str] = set()
        for kind in ("heads", "tags", "pr"):
            for commit_id in repo.refs(kind).values():
                yield from _line(repo, commit_id, seen)
        for discussion in list_all(repo):
            if discussion.base is not None and repo.target(discussion.ref) is None:
                yield f"{repo.id}: pull request {discussion.number} has no commits"
        for marker in repo.folder.glob("lfs/*"):
            if repo.blobs.size(marker.name) is None:
                yield f"{repo.id}: the LFS blob {marker.name} is lost"
    except (RefusedError, ValueError, OSError) as e:
        yield f"{repo.id}: {e}"


def _line(repo: LocalRepo, commit_id: str, seen: set[str]) -> Iterator[str]:
    for commit in repo.history(repo.commit(commit_id)):
        if commit.id in seen:
            return
        seen.add(commit.id)
        again = make_commit(
            tree_id=commit.tree_id,
            parents=commit.parents,
            author=commit.author,
            date=commit.date,
            title=commit.title,
            description=commit.description,
        )
        tree = repo.tree_on_disk(commit)
        if again.id != commit.id or folder_ids(tree)[""] != commit.tree_id:
            yield f"{repo.id}: commit {commit.id} was altered"
        for file in tree.values():
            if file.lfs and not repo.owns(file.sha256) and repo.has_deleted(file.sha256):
                continue
            if file.lfs and not repo.owns(file.sha256):
                yield f"{repo.id}: {file.path} at {commit.id}: the repo does not hold its LFS content"
            if repo.blobs.size(file.sha256) != file.size:
                yield f"{repo.id}: {file.path} at {commit.id}: its blob is lost or has another size"
