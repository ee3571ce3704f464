"""One comment on an issue or pull request: made once, kept up to date, found again by its marker and its author."""

from bot.github.answers import Answer
from bot.github.bodies import marked, marker_of, normalize_line_ends
from bot.github.client import Repository

_WHAT = "a comment"


def put_comment(repository: Repository, number: int, marker: str, text: str | None) -> str | None:
    """Make or update the bot's comment of a marker (a word), and return its address. Equal text is left alone.

    ``text`` is Markdown, escaped already; None takes the comment away. Where two jobs made one at the same moment, the
    first stays. Raises GithubError.
    """
    key = f"comment {marker}"
    body = marked(key, text or "")
    there = _found(repository, number, key)
    if text is None:
        for comment in there:
            _delete(repository, comment)
        return None
    first = _settle(repository, there or _create(repository, number, key, body))
    if normalize_line_ends(first["body"].text()) != body:
        edited = repository.patch(f"/issues/comments/{first['id'].number()}", {"body": body}, _WHAT)
        first = edited or _settle(repository, _create(repository, number, key, body))  # deleted in between
    return first["html_url"].address()


def read_comment(repository: Repository, number: int, marker: str) -> str | None:
    """Return the text of the bot's own comment of a marker, None where there is none. Raises GithubError."""
    key = f"comment {marker}"
    found = next(iter(_found(repository, number, key)), None)
    return None if found is None else normalize_line_ends(found["body"].text()).partition("\n")[2]


def _found(repository: Repository, number: int, key: str) -> list[Answer]:
    """Return the bot's own comments of a key, the first one first."""
    listed = repository.pages(f"/issues/{number}/comments", _WHAT)
    ours = [c for c in listed if _key(c) == key and repository.wrote(c)]
    return sorted(ours, key=lambda comment: comment["id"].number())


def _create(repository: Repository, number: int, key: str, body: str) -> list[Answer]:
    """Make a comment, and return all of its key: another job may have made one at the same moment."""

    def found() -> Answer | None:
        return next(iter(_found(repository, number, key)), None)

    made = repository.post(f"/issues/{number}/comments", {"body": body}, _WHAT, found=found)
    everyone = {comment["id"].number(): comment for comment in (made, *_found(repository, number, key))}
    return [comment for _, comment in sorted(everyone.items())]


def _settle(repository: Repository, there: list[Answer]) -> Answer:
    """Keep the first comment, and delete the others."""
    first, *others = there
    for other in others:
        _delete(repository, other)
    return first


def _delete(repository: Repository, comment: Answer) -> None:
    repository.delete(f"/issues/comments/{comment['id'].number()}", _WHAT)


def _key(comment: Answer) -> str | None:
    body = comment.get("body")
    return marker_of(body.text()) if body is not None else None
