"""What GitHub's API answers, whole: every value that GitHub's own description requires. The repository is ``o/r``."""

from typing import Any
from urllib.parse import quote
from zlib import crc32

MOMENT = "2026-01-02T03:04:05Z"
WEB = "https://github.com"


def addresses(base: str, names: str) -> dict[str, str]:
    """Return an address for each name: nobody follows them."""
    return {f"{name}_url": f"{base}/{name}" for name in names.split()}


def identity(kind: str, name: object) -> dict[str, Any]:
    """Return the two ids that everything has."""
    number = crc32(f"{kind} {name}".encode()) + 1
    return {"id": number, "node_id": f"{kind}_{number}"}


def account(api: str, login: str, kind: str = "User") -> dict[str, Any]:
    url = f"{api}/users/{quote(login)}"
    return {
        **identity("U", login),
        "login": login,
        "type": kind,
        "site_admin": False,
        "gravatar_id": "",
        "url": url,
        "html_url": f"{WEB}/{quote(login)}",
        **addresses(url, "avatar events followers following gists organizations received_events repos starred"),
        "subscriptions_url": f"{url}/subscriptions",
    }


def repository(api: str, name: str) -> dict[str, Any]:
    url, counts = f"{api}/repos/{name}", "forks open_issues stargazers watchers network subscribers"
    many = (
        "archive assignees blobs branches collaborators comments commits compare contents contributors deployments "
        "downloads events forks git_commits git_refs git_tags hooks issue_comment issue_events issues keys labels "
        "languages merges milestones notifications pulls releases stargazers statuses subscribers subscription tags "
        "teams trees clone ssh svn git mirror"
    )
    owner, _, short = name.partition("/")
    return {
        **identity("R", name),
        **addresses(url, many),
        **{f"{count}_count": 0 for count in counts.split()},
        **dict.fromkeys(
            ("has_issues", "has_projects", "has_wiki", "has_pages", "has_discussions", "has_downloads"), True
        ),
        **dict.fromkeys(("private", "fork", "archived", "disabled"), False),
        **dict.fromkeys(("description", "homepage", "language", "license"), None),
        **dict.fromkeys(("forks", "open_issues", "watchers", "size"), 0),
        **dict.fromkeys(("pushed_at", "created_at", "updated_at"), MOMENT),
        "name": short,
        "full_name": name,
        "owner": account(api, owner),
        "url": url,
        "html_url": f"{WEB}/{name}",
        "default_branch": "main",
    }


def label(api: str, name: str) -> dict[str, Any]:
    return {
        **identity("L", name),
        "url": f"{api}/repos/o/r/labels/x",
        "name": name,
        "description": "",
        "color": "ededed",
        "default": False,
    }


def issue(api: str, number: int, *, title: str, body: str | None, user: Any, labels: list[str]) -> dict[str, Any]:
    url = f"{api}/repos/o/r/issues/{number}"
    return {
        **identity("I", number),
        **addresses(url, "comments events labels"),
        **dict.fromkeys(("assignee", "milestone", "closed_at", "state_reason"), None),
        "repository_url": f"{api}/repos/o/r",
        "url": url,
        "html_url": f"{WEB}/o/r/issues/{number}",
        "number": number,
        "title": title,
        "body": body,
        "state": "open",
        "labels": [label(api, name) for name in labels],
        "user": user,
        "author_association": "NONE",
        "comments": 0,
        "locked": False,
        "created_at": MOMENT,
        "updated_at": MOMENT,
    }


def comment(api: str, issue: int, number: int, *, body: str, user: Any) -> dict[str, Any]:
    url = f"{api}/repos/o/r/issues/comments/{number}"
    return {
        "id": number,
        "node_id": f"IC_{number}",
        "url": url,
        "html_url": f"{WEB}/o/r/pull/{issue}#issuecomment-{number}",
        "issue_url": f"{api}/repos/o/r/issues/{issue}",
        "body": body,
        "user": user,
        "author_association": "NONE",
        "created_at": MOMENT,
        "updated_at": MOMENT,
    }


def pull(
    api: str,
    number: int,
    *,
    head: str = "o/r",
    branch: str = "topic",
    sha: str = "a" * 40,
    labels: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return an open pull request as a listing has it; ``head`` is the repository that it comes from."""
    url, user = f"{api}/repos/o/r/pulls/{number}", account(api, head.partition("/")[0])

    def end(name: str, ref: str, sha: str) -> dict[str, Any]:
        place = repository(api, name)
        return {"label": f"{place['owner']['login']}:{ref}", "ref": ref, "sha": sha, "repo": place, "user": user}

    links = ("comments", "commits", "statuses", "html", "issue", "review_comments", "review_comment", "self")
    return {
        **identity("PR", number),
        **addresses(url, "comments commits diff issue patch review_comment review_comments statuses"),
        **dict.fromkeys(("assignee", "milestone", "closed_at", "merged_at", "auto_merge"), None),
        "_links": {name: {"href": f"{url}/{name}"} for name in links},
        "url": url,
        "html_url": f"{WEB}/o/r/pull/{number}",
        "number": number,
        "state": "open",
        "locked": False,
        "title": "a change",
        "body": None,
        "user": user,
        "labels": [label(api, name) for name in labels],
        "head": end(head, branch, sha),
        "base": end("o/r", "main", "b" * 40),
        "merge_commit_sha": "c" * 40,
        "author_association": "NONE",
        "created_at": MOMENT,
        "updated_at": MOMENT,
    }


def whole_pull(short: dict[str, Any]) -> dict[str, Any]:
    """Return a pull request as it is answered when asked for alone."""
    return {
        **short,
        **dict.fromkeys(("additions", "deletions", "changed_files", "comments", "commits", "review_comments"), 1),
        "merged": short["merged_at"] is not None,
        "merged_by": None,
        "mergeable": True,
        "mergeable_state": "clean",
        "maintainer_can_modify": False,
    }
