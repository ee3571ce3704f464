"""Discussions and pull requests over HTTP."""

from dataclasses import replace
from typing import Any

from bot.localhub import discussions
from bot.localhub.access import contributor, readable, visible, writer_to
from bot.localhub.api_repos import iso_time
from bot.localhub.api_webhooks import tell_of_commit
from bot.localhub.diff import as_text, changes_between
from bot.localhub.discussions import Discussion, DiscussionEvent
from bot.localhub.names import title_of
from bot.localhub.objects import Commit
from bot.localhub.refused import bad_request, not_found
from bot.localhub.repo import MAIN, LocalRepo
from bot.localhub.web import Request, Response, json_response, string

_PAGE = 50


def list_discussions(request: Request, **where: str) -> Response:
    """List discussions and pull requests, newest first."""
    repo = visible(request, **where)
    kind, status, author = request.one("type"), request.one("status"), request.one("author")
    found = [
        d
        for d in discussions.list_all(repo)
        if kind in (None, "all", "pull_request" if d.base else "discussion")
        and status in (None, "all", "closed" if d.status in ("closed", "merged") else "open")
        and author in (None, d.author)
    ]
    start = request.number("p", 0) * _PAGE
    page = [_summary(repo, d) for d in found[start : start + _PAGE]]
    return json_response({"discussions": page, "count": len(found), "start": start})


def show_discussion(request: Request, number: str, **where: str) -> Response:
    """Tell all about a discussion, and what it would change."""
    repo = readable(request, **where)
    return json_response(_details(repo, discussions.numbered(repo, number)))


def create_discussion(request: Request, **where: str) -> Response:
    """Open a discussion, or a draft of a pull request that has no commits yet."""
    repo, wanted = visible(request, **where), request.json()
    author = contributor(request, repo).name
    title = title_of(string(wanted, "title"))
    if not 3 <= len(title) <= 200:
        raise bad_request("a title has 3 to 200 characters")
    with repo.changing():
        head = repo.resolve(MAIN.full).id if wanted.get("pullRequest") else None
        made = discussions.begin(
            repo,
            title=title,
            author=author,
            text=string(wanted, "description", ""),
            status="draft" if head else "open",
            commits=discussions.Proposed(base=head, head=head) if head else None,
        )
    return json_response({"num": made.number, "url": f"{request.base}/{repo.path}/discussions/{made.number}"})


def comment(request: Request, number: str, **where: str) -> Response:
    """Add a comment."""
    repo = visible(request, **where)
    author = contributor(request, repo).name
    news = discussions.event("comment", author, _comment(request))
    _change(repo, number, lambda d: replace(d, events=(*d.events, news)))
    return json_response({"newMessage": _event(news)})


def edit_comment(request: Request, number: str, comment_id: str, **where: str) -> Response:
    """Change a comment of one's own."""
    return _rewrite(request, number, comment_id, where, text=string(request.json(), "content"))


def hide_comment(request: Request, number: str, comment_id: str, **where: str) -> Response:
    """Take back a comment of one's own: its text is gone."""
    return _rewrite(request, number, comment_id, where, text=None)


def rename(request: Request, number: str, **where: str) -> Response:
    """Give a discussion another title."""
    repo = visible(request, **where)
    title = title_of(string(request.json(), "title"))
    found = _mine(request, repo, number)
    news = discussions.event("title-change", contributor(request, repo).name, title, before=found.title)
    _change(repo, number, lambda d: replace(d, title=title, events=(*d.events, news)))
    return json_response({"newTitle": _event(news)})


def change_status(request: Request, number: str, **where: str) -> Response:
    """Close a discussion, or open it."""
    repo, wanted = visible(request, **where), request.json()
    status = string(wanted, "status")
    if status not in ("open", "closed"):
        raise bad_request("'status' is open or closed")
    _mine(request, repo, number)
    author = contributor(request, repo).name
    news = [discussions.event("comment", author, text)] if (text := string(wanted, "comment", "")) else []
    news.append(discussions.event("status-change", author, status))

    def change(found: Discussion) -> Discussion:
        if found.status == "merged":
            raise bad_request(f"pull request {number} is merged already")
        return replace(found, status="closed" if status == "closed" else "open", events=(*found.events, *news))

    _change(repo, number, change)
    return json_response({"newStatus": _event(news[-1])})


def merge(request: Request, number: str, **where: str) -> Response:
    """Put a pull request on its branch."""
    repo = visible(request, **where)
    author = writer_to(request, repo).name
    text = string(request.json(), "comment", "")
    found = discussions.numbered(repo, number)
    before = repo.resolve(found.onto.full).id
    merged = discussions.merge(repo, found.number, author=author, comment=text)
    tell_of_commit(request, repo, found.onto.full, before, repo.resolve(found.onto.full).id)
    return json_response(_summary(repo, merged))


def _rewrite(request: Request, number: str, comment_id: str, where: dict[str, str], *, text: str | None) -> Response:
    repo = visible(request, **where)
    author = contributor(request, repo).name

    def change(found: Discussion) -> Discussion:
        old = next((e for e in found.events if e.id == comment_id and e.type == "comment" and not e.hidden), None)
        if old is None:
            raise not_found("EntryNotFound", f"discussion {number} has no comment {comment_id}")
        if old.author != author:
            writer_to(request, repo)
        new = replace(old, text="", hidden=True) if text is None else replace(old, text=text, edited=True)
        return replace(found, events=tuple(new if e == old else e for e in found.events))

    changed = _change(repo, number, change)
    return json_response({"updatedComment": _event(next(e for e in changed.events if e.id == comment_id))})


def _comment(request: Request) -> str:
    text = string(request.json(), "comment")
    if not text.strip():
        raise bad_request("the comment is empty")
    return text


def _mine(request: Request, repo: LocalRepo, number: str) -> Discussion:
    found = discussions.numbered(repo, number)
    if found.author != contributor(request, repo).name:
        writer_to(request, repo)
    return found


def _change(repo: LocalRepo, number: str, how: Any) -> Discussion:
    return discussions.change(repo, discussions.numbered(repo, number).number, how)


def _summary(repo: LocalRepo, found: Discussion) -> dict[str, Any]:
    return {
        "num": found.number,
        "title": found.title,
        "author": {"name": found.author},
        "createdAt": iso_time(found.created),
        "status": found.status,
        "isPullRequest": found.base is not None,
        "repo": {"name": repo.id, "type": repo.type},
    }


def _details(repo: LocalRepo, found: Discussion) -> dict[str, Any]:
    events = discussions.timeline(repo, found)
    details = _summary(repo, found) | {
        "events": [_commit_event(e) if isinstance(e, Commit) else _event(e) for e in events]
    }
    if found.base is not None:
        base, head = repo.tree(repo.commit(found.base)), repo.tree(repo.resolve(found.ref.full))
        details["diff"] = as_text(changes_between(repo.blobs, base, head))
        details["filesWithConflicts"] = discussions.conflicts_of(repo, found)
        details["changes"] = {"base": found.onto.full}
        if found.merge_commit:
            details["changes"]["mergeCommitId"] = found.merge_commit
    return details


def _event(found: DiscussionEvent) -> dict[str, Any]:
    data: dict[str, Any]
    if found.type == "comment":
        latest = {"raw": found.text, "html": "", "updatedAt": iso_time(found.created), "author": {"name": found.author}}
        data = {"edited": found.edited, "hidden": found.hidden, "latest": latest, "history": []}
    elif found.type == "status-change":
        data = {"status": found.text}
    else:
        data = {"from": found.before, "to": found.text}
    return {
        "id": found.id,
        "type": found.type,
        "createdAt": iso_time(found.created),
        "author": {"name": found.author},
        "data": data,
    }


def _commit_event(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id[:24],
        "type": "commit",
        "createdAt": iso_time(commit.date),
        "author": {"name": commit.author},
        "data": {"subject": commit.title, "oid": commit.id},
    }
