"""Looks at a repository that change nothing: what the doctor asks before a run does."""

from itertools import islice

from bot.github.answers import REPOSITORY
from bot.github.client import Repository
from bot.github.issues import LABEL

_LOOKED_AT = 100  # comments: a page


def told(repository: Repository) -> str:
    """Return what GitHub tells of a repository and of the rights in it, in words. Raises GithubError."""
    answer = repository.get("", "a repository")
    words = [answer["full_name"].text(REPOSITORY)]
    rights = answer.get("permissions")  # GitHub tells them to the tokens of accounts, not to all of apps'
    if rights is None:
        words.append("of the token's rights GitHub says nothing")
    else:
        may = [name for name in ("admin", "push", "pull") if _is_true(rights.get(name))]
        words.append(f"the token's account may: {', '.join(may) or 'nothing'}")
    if not _is_true(answer.get("has_issues")):
        words.append("issues are turned off")
    if _is_true(answer.get("archived")):
        words.append("it is archived, so that nothing can be written")
    return "; ".join(words)


def first_issue(repository: Repository) -> int:
    """Return the number of one of the issues with the bot's label, 0 where there is none. Raises GithubError."""
    found = repository.pages("/issues", "an issue", state="all", labels=LABEL)
    return next((issue["number"].number() for issue in found), 0)


def comments(repository: Repository, number: int) -> int:
    """Return how many comments an issue has, as far as they are on the first page. Raises GithubError."""
    return sum(1 for _ in islice(repository.pages(f"/issues/{number}/comments", "a comment"), _LOOKED_AT))


def _is_true(answer: object) -> bool:
    return getattr(answer, "value", None) is True
