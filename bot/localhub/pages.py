"""The Hub in a browser: HTML without scripts, from the templates in ``templates/hub``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup

from bot.localhub import access, discussions, front_matter, names
from bot.localhub.access import find_visible, readable, repo_type, visible
from bot.localhub.api_files import last_commits
from bot.localhub.card import IMAGE_SUFFIXES, CardHtml, PageAddress, render
from bot.localhub.diff import changes_between
from bot.localhub.metadata import MAX_CARD, read_text, view
from bot.localhub.objects import Commit, Tree
from bot.localhub.refused import RefusedError, not_found
from bot.localhub.repo import MAIN, LocalRepo
from bot.localhub.web import Request, Response
from bot.pages.templates import environment

_PAGE = 50
_STATIC = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
_MAX_SHOWN = 256 * 1024  # bytes of a text that is shown in its page
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def index(request: Request, types: str) -> Response:
    """Show the repos of one type, those that fit a search."""
    kind, words = repo_type(types), (request.one("search") or "").strip()
    found = access.listed(request, kind)
    shown, turn = _page(request, found)
    return _html(
        request,
        "index",
        types=types,
        search=words,
        author=request.one("author"),
        total=len(found),
        repos=shown,
        texts=front_matter.texts,
        turn=turn,
    )


def namespace(request: Request, namespace: str) -> Response:  # noqa: ARG001
    """Lead to the models of a namespace."""
    return _redirect(f"/?{urlencode({'author': names.check_namespace(namespace)})}")


def card(request: Request, **where: str) -> Response:
    """Show the card of a repo."""
    repo = visible(request, **where)
    seen = view(repo, MAIN.full)
    text = read_text(repo.blobs, seen.tree, "README.md", most=MAX_CARD)
    head, body = front_matter.split(text)
    return _html(
        request,
        "card",
        **_frame(repo, "card", seen.commit),
        seen=seen,
        card=render(body, _place(repo, seen.commit)) if text else None,
        wrong=_head_error(head),
        bases=[_base(request, b) for b in front_matter.texts(seen.known.card.get("base_model"))],
        licenses=front_matter.texts(seen.known.card.get("license")),
        parameters=sum(seen.known.parameters.values()),
    )


def files(request: Request, revision: str, path: str, **where: str) -> Response:
    """Show a folder of a repo."""
    repo = visible(request, **where)
    commit = repo.resolve(revision)
    tree = repo.tree(commit)
    prefix = f"{path.strip('/')}/" if path.strip("/") else ""
    inside = sorted({p[len(prefix) :].partition("/")[0] for p in tree if p.startswith(prefix)})
    if prefix and not inside:
        raise not_found("EntryNotFound", f"{repo.id} has no folder {path} at {commit.id}", commit=commit.id)
    touched = last_commits(repo, commit)
    entries = []
    for name in inside:
        file = tree.get(prefix + name)
        below = [f.size for p, f in tree.items() if p.startswith(f"{prefix}{name}/")]
        entries.append(
            {
                "name": name,
                "path": prefix + name,
                "file": file,
                "size": file.size if file else sum(below),
                "last": touched[prefix + name],
            }
        )
    entries.sort(key=lambda e: (e["file"] is not None, e["name"]))
    return _html(
        request,
        "files",
        **_frame(repo, "files", commit, revision),
        path=prefix.rstrip("/"),
        entries=entries,
        size=sum(f.size for p, f in tree.items() if p.startswith(prefix)),
    )


def file(request: Request, revision: str, path: str, **where: str) -> Response:
    """Show one file: what it is, and what it holds where that is a short text or an image."""
    repo = readable(request, **where)
    commit = repo.resolve(revision)
    found = repo.file(commit, path)
    text = None
    if not found.lfs and found.size <= _MAX_SHOWN:
        content = repo.blobs.path(found.sha256).read_bytes()
        text = content.decode(errors="replace") if b"\0" not in content else None
    return _html(
        request,
        "file",
        **_frame(repo, "files", commit, revision),
        path=path,
        file=found,
        text=text,
        image=path.lower().endswith(IMAGE_SUFFIXES),
    )


def history(request: Request, revision: str, **where: str) -> Response:
    """Show the commits of a revision."""
    repo = visible(request, **where)
    commit = repo.resolve(revision)
    shown, turn = _page(request, list(repo.history(commit)))
    return _html(request, "history", **_frame(repo, "history", commit, revision), commits=shown, turn=turn)


def commit(request: Request, commit: str, **where: str) -> Response:
    """Show what one commit changed."""
    repo = readable(request, **where)
    found = repo.resolve(commit)
    before: Tree = repo.tree(repo.commit(found.parents[0])) if found.parents else {}
    return _html(
        request,
        "commit",
        **_frame(repo, "history", found, found.id),
        changes=changes_between(repo.blobs, before, repo.tree(found)),
    )


def talk(request: Request, **where: str) -> Response:
    """Show the discussions and pull requests of a repo."""
    repo = visible(request, **where)
    shown, turn = _page(request, discussions.list_all(repo))
    return _html(request, "talk", **_frame(repo, "talk"), discussions=shown, turn=turn)


def discussion(request: Request, number: str, **where: str) -> Response:
    """Show one discussion, and what it would change."""
    repo = readable(request, **where)
    found = discussions.numbered(repo, number)
    place = _place(repo, repo.resolve(MAIN.full))
    events: list[tuple[str, discussions.DiscussionEvent | Commit, CardHtml | None]] = []
    for e in discussions.timeline(repo, found):
        if isinstance(e, Commit):
            events.append(("commit", e, None))
        else:
            events.append((e.type, e, render(e.text, place) if e.type == "comment" else None))
    changes = []
    if found.base is not None:
        base, head = repo.commit(found.base), repo.resolve(found.ref.full)
        changes = changes_between(repo.blobs, repo.tree(base), repo.tree(head))
    return _html(
        request,
        "discussion",
        **_frame(repo, "talk"),
        found=found,
        events=events,
        conflicts=discussions.conflicts_of(repo, found),
        changes=changes,
    )


def login(request: Request) -> Response:
    """Ask the browser for a token: private repos are shown to those who give one."""
    if request.grant is None:
        raise RefusedError(
            HTTPStatus.UNAUTHORIZED,
            "Give any name, and a token of this Hub as the password.",
            headers={"WWW-Authenticate": 'Basic realm="The embedded Hub: any name, the token as password"'},
        )
    return _redirect("/")


def static(request: Request, name: str) -> Response:  # noqa: ARG001
    """Send the style sheet or the icon."""
    kind = _STATIC.get(name)
    loader = environment().loader
    if kind is None or loader is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, "the embedded Hub has nothing at this address")
    text, _, _ = loader.get_source(environment(), f"hub/{name}")
    return Response(headers={"Content-Type": kind, "Cache-Control": "no-cache"}, body=text.encode())


def error_page(error: RefusedError) -> Response:
    """Show an error to a person."""
    made = _rendered("error", error=error, phrase="Not found" if error.code == "RepoNotFound" else error.status.phrase)
    return Response(status=error.status, headers={**_HEADERS, **error.headers}, body=made)


_HEADERS = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}


def _html(request: Request, template: str, **values: Any) -> Response:
    return Response(headers=_HEADERS, body=_rendered(template, base=request.base, grant=request.grant, **values))


def _rendered(template: str, **values: Any) -> bytes:
    made = environment().get_template(f"hub/{template}.html.j2").render(when=_when, short=_short, quote=quote, **values)
    return made.encode(errors="replace")


def _redirect(location: str) -> Response:
    return Response(status=HTTPStatus.FOUND, headers={"Location": location})


def _when(seconds: int) -> Markup:
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M UTC"))


def _short(count: int) -> str:
    for factor, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def _frame(repo: LocalRepo, tab: str, commit: Commit | None = None, revision: str = MAIN.name) -> dict[str, Any]:
    return {
        "repo": repo,
        "settings": repo.settings(),
        "tab": tab,
        "commit": commit,
        "revision": revision,
        "branches": list(repo.refs("heads")),
        "tags": list(repo.refs("tags")),
        "open_talk": sum(d.status in ("open", "draft") for d in discussions.list_all(repo)),
        "page": f"/{repo.path}",
    }


def _page(request: Request, items: Sequence[Any]) -> tuple[Sequence[Any], dict[str, str]]:
    number = request.number("p", 0)
    turn = {"newer": "", "older": ""}
    for name, other in (("newer", number - 1), ("older", number + 1)):
        if 0 <= other * _PAGE < len(items):
            query = {**request.query, "p": [str(other)]}
            turn[name] = f"{request.path}?{urlencode(query, doseq=True)}"
    return items[number * _PAGE : (number + 1) * _PAGE], turn


def _head_error(head: str | None) -> str | None:
    try:
        front_matter.read(head or "")
    except front_matter.HeadError as e:
        return str(e)
    return None


def _base(request: Request, base: str) -> tuple[str, bool]:
    """Return the id of a base model, and whether this Hub has it for the caller to see."""
    try:
        owner, _, name = base.partition("/")
        find_visible(request, "models", owner, name)
    except RefusedError:
        return base, False
    return base, True


def _place(repo: LocalRepo, commit: Commit) -> PageAddress:
    return PageAddress(page=f"/{repo.path}", commit=commit.id, folder="", tree=repo.tree(commit))
