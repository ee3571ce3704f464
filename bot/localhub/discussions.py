"""Discussions and pull requests of a repo: one JSON file each, written whole."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bot.localhub import changes
from bot.localhub.durable import read_json
from bot.localhub.objects import Commit
from bot.localhub.refused import bad_request, conflict, not_found
from bot.localhub.repo import MAIN, LocalRepo, Ref, unknown_revision
from bot.records.artifacts import Record

Status = Literal["draft", "open", "closed", "merged"]


@dataclass(frozen=True, kw_only=True)
class DiscussionEvent(Record):
    """Something that happened in a discussion. ``text`` is a comment, a status or a title."""

    id: str
    type: Literal["comment", "status-change", "title-change"]
    author: str
    created: int
    text: str
    before: str = ""
    edited: bool = False
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Discussion(Record):
    """A discussion, or a pull request when ``base`` is the commit that it started from, of the branch ``target``."""

    number: int
    title: str
    author: str
    created: int
    status: Status
    base: str | None
    merge_commit: str | None
    events: tuple[DiscussionEvent, ...]
    target: str = MAIN.name

    @property
    def ref(self) -> Ref:
        """Where a pull request's commits are."""
        return Ref(kind="pr", name=str(self.number))

    @property
    def onto(self) -> Ref:
        """The branch that a pull request is to be merged into."""
        return Ref(kind="heads", name=self.target)


def event(
    kind: Literal["comment", "status-change", "title-change"], author: str, text: str, before: str = ""
) -> DiscussionEvent:
    """Return something that happens now."""
    return DiscussionEvent(
        id=secrets.token_hex(12), type=kind, author=author, created=int(time.time()), text=text, before=before
    )


def list_all(repo: LocalRepo) -> list[Discussion]:
    """Return a repo's discussions, newest first."""
    folder = repo.folder / "discussions"
    if not folder.is_dir():
        return []
    found = [Discussion.from_json(read_json(f)) for f in folder.iterdir()]
    return sorted(found, key=lambda d: d.number, reverse=True)


def find(repo: LocalRepo, number: int) -> Discussion:
    """Return a discussion by its number."""
    try:
        return Discussion.from_json(read_json(_file(repo, number)))
    except FileNotFoundError:
        raise not_found("EntryNotFound", f"{repo.id} has no discussion {number}") from None


def numbered(repo: LocalRepo, number: str) -> Discussion:
    """Return a discussion by its number as an address says it."""
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise not_found("EntryNotFound", f"{repo.id} has no discussion {number!r}")
    return find(repo, int(number))


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """The commits of a new pull request: up to ``head``, on top of ``base``, for the branch ``target``."""

    base: str
    head: str
    target: str = MAIN.name


def begin(
    repo: LocalRepo,
    *,
    title: str,
    author: str,
    text: str,
    status: Status,
    commits: Proposed | None = None,
) -> Discussion:
    """Open a discussion, or a pull request with its commits; the caller holds the lock.

    The ref is written first: a pull request that can be seen has its commits.
    """
    taken = [int(n) for n in repo.refs("pr")] + [d.number for d in list_all(repo)]
    made = Discussion(
        number=max(taken, default=0) + 1,
        title=title,
        author=author,
        created=int(time.time()),
        status=status,
        base=commits.base if commits else None,
        merge_commit=None,
        events=(event("comment", author, text),),
        target=commits.target if commits else MAIN.name,
    )
    if commits is not None:
        repo.point(made.ref, commits.head)
    save(repo, made)
    return made


def change(repo: LocalRepo, number: int, how: Callable[[Discussion], Discussion]) -> Discussion:
    """Replace a discussion by what ``how`` makes of it."""
    with repo.changing():
        changed = how(find(repo, number))
        save(repo, changed)
    return changed


def commits_of(repo: LocalRepo, discussion: Discussion) -> list[Commit]:
    """Return the commits of a pull request, oldest first."""
    if discussion.base is None:
        return []
    found = []
    for commit in repo.history(repo.resolve(discussion.ref.full)):
        if commit.id == discussion.base:
            break
        found.append(commit)
    return found[::-1]


def timeline(repo: LocalRepo, discussion: Discussion) -> list[DiscussionEvent | Commit]:
    """Return all that happened, oldest first; what opened a discussion comes before the commits of that second."""
    opening, later = discussion.events[:1], discussion.events[1:]
    ranked: list[tuple[int, int, DiscussionEvent | Commit]] = [(e.created, 0, e) for e in opening]
    ranked += [(c.date, 1, c) for c in commits_of(repo, discussion)]
    ranked += [(e.created, 2, e) for e in later]
    return [found for _, _, found in sorted(ranked, key=lambda r: r[:2])]


def conflicts_of(repo: LocalRepo, discussion: Discussion) -> list[str]:
    """Return the paths that keep an open pull request from being merged."""
    ours = repo.target(discussion.onto)
    if discussion.base is None or discussion.status not in ("draft", "open") or ours is None:
        return []
    return changes.conflicts(
        base=repo.tree(repo.commit(discussion.base)),
        ours=repo.tree(repo.commit(ours)),
        theirs=repo.tree(repo.resolve(discussion.ref.full)),
    )


def merge(repo: LocalRepo, number: int, *, author: str, comment: str) -> Discussion:
    """Put a pull request on its branch as one commit; after a crash before its status was written, again."""
    with repo.changing():
        found = find(repo, number)
        if found.base is None or found.status != "open":
            raise bad_request(f"{found.status} {'pull requests' if found.base else 'discussions'} cannot be merged")
        if repo.target(found.onto) is None:
            raise unknown_revision(found.onto.full)
        if not all(_comes_from(repo, ref, found.base) for ref in (found.onto, found.ref)):
            raise conflict(f"{found.ref.full} and {found.target} have no commit in common: one of them was squashed")
        if paths := conflicts_of(repo, found):
            raise conflict(f"{found.target} has changed too: {', '.join(paths)}")
        base, theirs = repo.tree(repo.commit(found.base)), repo.tree(repo.resolve(found.ref.full))
        landed = repo.land(
            found.onto,
            lambda ours: changes.merge(base=base, ours=ours, theirs=theirs),
            parent=None,
            author=author,
            title=f"{found.title} (#{number})",
            description="\n".join(f"- {c.title} ({c.id})" for c in commits_of(repo, found)),
        )
        news = [event("comment", author, comment)] if comment else []
        news.append(event("status-change", author, "merged"))
        merged = replace(found, status="merged", merge_commit=landed.id, events=(*found.events, *news))
        save(repo, merged)
    return merged


def _comes_from(repo: LocalRepo, ref: Ref, commit_id: str) -> bool:
    return any(c.id == commit_id for c in repo.history(repo.resolve(ref.full)))


def save(repo: LocalRepo, discussion: Discussion) -> None:
    """Keep a discussion as it is now; the caller holds the lock."""
    repo.scratch.write_json(_file(repo, discussion.number), discussion.to_json())


def _file(repo: LocalRepo, number: int) -> Path:
    return repo.folder / "discussions" / f"{number}.json"
