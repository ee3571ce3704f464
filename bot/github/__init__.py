"""GitHub, through PyGithub: no other room of the bot imports it."""

from bot.github import reading
from bot.github.answers import COMMIT, REPOSITORY
from bot.github.client import Repository, open_repository
from bot.github.comments import put_comment, read_comment
from bot.github.events import MOST_PULLS, EventValue, WorkflowRun
from bot.github.issues import Issues, ReleaseIssue, connect
from bot.github.pulls import (
    Permission,
    Pull,
    find_pull,
    permission_of,
    read_pull,
    remove_label,
)
from bot.github.refusals import is_refusal

__all__ = [
    "COMMIT",
    "MOST_PULLS",
    "REPOSITORY",
    "EventValue",
    "Issues",
    "Permission",
    "Pull",
    "ReleaseIssue",
    "Repository",
    "WorkflowRun",
    "connect",
    "find_pull",
    "is_refusal",
    "open_repository",
    "permission_of",
    "put_comment",
    "read_comment",
    "read_pull",
    "reading",
    "remove_label",
]
