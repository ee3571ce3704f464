"""Files, trees and commits, named by the ids that git gives them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bot.records.artifacts import Record


@dataclass(frozen=True, kw_only=True)
class File(Record):
    """A file at some commit. ``blob_id`` is git's: of the content, or of the LFS pointer when ``lfs``."""

    path: str
    size: int
    sha256: str
    blob_id: str
    lfs: bool


Tree = Mapping[str, File]  # by path, in the order of paths


@dataclass(frozen=True, kw_only=True)
class Commit(Record):
    """An immutable commit. ``date`` is in seconds since 1970; ``id`` follows from the rest as in git."""

    id: str
    tree_id: str
    parents: tuple[str, ...]
    author: str
    date: int
    title: str
    description: str


def regular_file(path: str, content: bytes) -> File:
    """Return the entry of a file that git itself would hold."""
    return File(
        path=path,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        blob_id=_git_id("blob", content),
        lfs=False,
    )


def lfs_file(path: str, *, sha256: str, size: int) -> File:
    """Return the entry of a file that git holds as an LFS pointer."""
    return File(path=path, size=size, sha256=sha256, blob_id=_git_id("blob", lfs_pointer(sha256, size)), lfs=True)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """Return the text that git stores in place of an LFS file (https://github.com/git-lfs/git-lfs, docs/spec.md)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def make_tree(files: Iterable[File]) -> Tree:
    """Return a tree of files in the order of their paths."""
    return {f.path: f for f in sorted(files, key=lambda f: f.path)}


def folder_ids(tree: Tree) -> dict[str, str]:
    """Return git's id of each folder, by path; the root's path is the empty string."""
    listing: dict[str, list[tuple[str, str, bool]]] = {"": []}
    for path, file in tree.items():
        for folder in _folders_of(path):
            listing.setdefault(folder, [])
        folder, name = _split(path)
        listing[folder].append((name, file.blob_id, False))
    ids: dict[str, str] = {}
    for folder in sorted(listing, key=lambda f: (-len(f.split("/")) if f else 1, f)):
        ids[folder] = _git_id("tree", b"".join(_tree_lines(listing[folder])))
        if folder:
            parent, name = _split(folder)
            listing[parent].append((name, ids[folder], True))
    return ids


def make_commit(
    *, tree_id: str, parents: tuple[str, ...], author: str, date: int, title: str, description: str
) -> Commit:
    """Return a commit with the id that git would give it."""
    message = f"{title}\n\n{description}" if description else title
    who = f"{author} <{author}@localhost> {date} +0000"
    lines = [f"tree {tree_id}", *(f"parent {p}" for p in parents), f"author {who}", f"committer {who}", "", message]
    return Commit(
        id=_git_id("commit", ("\n".join(lines) + "\n").encode()),
        tree_id=tree_id,
        parents=parents,
        author=author,
        date=date,
        title=title,
        description=description,
    )


def _folders_of(path: str) -> Iterator[str]:
    folder, _ = _split(path)
    while folder:
        yield folder
        folder, _ = _split(folder)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _tree_lines(entries: Iterable[tuple[str, str, bool]]) -> Iterator[bytes]:
    # git orders a folder as if its name ended with a slash
    for name, oid, folder in sorted(entries, key=lambda e: (e[0] + "/" if e[2] else e[0]).encode()):
        yield (b"40000 " if folder else b"100644 ") + name.encode() + b"\0" + bytes.fromhex(oid)


def _git_id(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
