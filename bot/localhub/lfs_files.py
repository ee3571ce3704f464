"""The LFS files that a repo holds: which there are, and how one goes for good, out of the history too."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bot.localhub import discussions
from bot.localhub.objects import Tree, make_tree
from bot.localhub.repo import LocalRepo, Ref, RefKind

_KINDS: tuple[RefKind, ...] = ("heads", "tags", "pr")


@dataclass(frozen=True, kw_only=True)
class HeldFile:
    """An LFS file that a repo holds. ``path`` and ``ref`` are where it was seen first, newest commits first."""

    sha256: str
    size: int
    pushed: int  # seconds since 1970
    path: str | None
    ref: Ref | None


def list_all(repo: LocalRepo) -> list[HeldFile]:
    """Return the LFS files that a repo holds, newest first."""
    places = {sha256: (path, ref) for sha256, path, ref in _places(repo)}
    found = []
    for sha256, pushed in repo.owned().items():
        size = repo.blobs.size(sha256)
        if size is not None:
            path, ref = places.get(sha256, (None, None))
            found.append(HeldFile(sha256=sha256, size=size, pushed=pushed, path=path, ref=ref))
    return sorted(found, key=lambda h: (-h.pushed, h.path or "", h.sha256))


def delete(repo: LocalRepo, doomed: set[str], *, rewrite: bool) -> None:
    """Let a repo hold some LFS files no longer. Their blobs are garbage, unless another repo holds them.

    With ``rewrite`` no branch, tag or pull request has them in any commit any more; without, commits name files that
    cannot be downloaded. Killed in between, nothing is lost that was not to go, and the same call again completes it.
    """
    with repo.changing():
        if rewrite:
            _rewrite(repo, doomed)
        repo.disown(doomed, forgotten=rewrite)


def _rewrite(repo: LocalRepo, doomed: set[str]) -> None:
    """Make the history anew without some files. All commits are there before the first name leads to one."""
    refs = {Ref(kind=kind, name=name): commit for kind in _KINDS for name, commit in repo.refs(kind).items()}
    talks = [d for d in discussions.list_all(repo) if d.base is not None]
    new: dict[str, str] = {}
    for commit_id in (*refs.values(), *(c for d in talks for c in (d.base, d.merge_commit) if c)):
        _renewed(repo, commit_id, doomed, new)
    for talk in talks:
        base, merged = (c and new[c] for c in (talk.base, talk.merge_commit))
        discussions.save(repo, replace(talk, base=base, merge_commit=merged))
    for ref, commit_id in refs.items():
        if new[commit_id] != commit_id:
            repo.point(ref, new[commit_id])


def _renewed(repo: LocalRepo, commit_id: str, doomed: set[str], new: dict[str, str]) -> None:
    """Write what a commit and all before it are without some files; ``new`` leads from each old id to the new one."""
    for commit in reversed([c for c in repo.history(repo.commit(commit_id)) if c.id not in new]):
        tree = repo.tree(commit)
        kept: Tree = make_tree(f for f in tree.values() if not (f.lfs and f.sha256 in doomed))
        parents = tuple(new[p] for p in commit.parents)
        if len(kept) == len(tree) and parents == commit.parents:
            new[commit.id] = commit.id
            continue
        new[commit.id] = repo.record(
            kept,
            parents=parents,
            author=commit.author,
            title=commit.title,
            description=commit.description,
            date=commit.date,
        ).id


def _places(repo: LocalRepo) -> Iterator[tuple[str, str, Ref]]:
    """Yield where LFS files are: what comes later is what is to be told."""
    found = []
    seen: set[str] = set()
    for kind in _KINDS:
        for name, head in sorted(repo.refs(kind).items(), key=lambda r: r[0] != "main"):
            for commit in repo.history(repo.commit(head)):
                if commit.id in seen:
                    break
                seen.add(commit.id)
                found += [(f.sha256, f.path, Ref(kind=kind, name=name)) for f in repo.tree(commit).values() if f.lfs]
    yield from reversed(found)
