"""The rights of a token, as the Hub reports them: asked before hours of work, so that they are not wasted.

Only what is surely refused is refused here. Where the Hub does not say (an older one, a kind of token that is not
known), the request itself will tell.
"""

from collections.abc import Iterable

from bot.records.artifacts import Json

WRITE_REPOS = "repo.write"
RUN_JOBS = "job.write"

_EVERY = "*"  # an organisation of the embedded Hub: all of them
_WRITING = frozenset({"admin", "write", "contributor"})  # roles in an organisation that may make repos


def only_reads(account: Json) -> str | None:
    """Say that a token may write nowhere, or return None where it may, or the Hub does not say."""
    role = _dict(_dict(account.get("auth")).get("accessToken")).get("role")
    return f"the token of {account.get('name')} may only read" if role == "read" else None


def objection(account: Json, namespace: str, *, permission: str = WRITE_REPOS, repos: Iterable[str] = ()) -> str | None:
    """Say why a token has no such permission in a namespace, or return None where it has, or may have.

    ``account`` is the Hub's answer to whose token it is. ``repos`` (``owner/name``, ``datasets/owner/name``) are those
    of the namespace that matter: a fine-grained token may be for these alone.
    """
    token = _dict(_dict(account.get("auth")).get("accessToken"))
    name, role = account.get("name"), token.get("role")
    if (why := only_reads(account)) is not None:
        return why
    scoped = [_dict(s) for s in _list(_dict(token.get("fineGrained")).get("scoped"))]
    if role == "fineGrained" and isinstance(token.get("fineGrained"), dict):
        if any(permission in _list(s.get("permissions")) and _is_for(s, namespace, repos) for s in scoped):
            return None
        return f"the fine-grained token of {name} has no permission {permission} in {namespace}"
    if not isinstance(account.get("orgs"), list) or _same(name, namespace):
        return None
    orgs = [_dict(org) for org in account["orgs"]]
    found = next((org for org in orgs if _same(org.get("name"), namespace) or org.get("name") == _EVERY), None)
    if found is None:
        return f"{name}, whose token this is, is not in {namespace}"
    in_org = found.get("roleInOrg")
    if isinstance(in_org, str) and in_org not in _WRITING:
        return f"{name}, whose token this is, may only read in {namespace}"
    return None


def permissions(account: Json, namespace: str) -> tuple[str, ...]:
    """Return what a fine-grained token may do in a namespace and everywhere, in the Hub's words; () for another one."""
    told = _dict(_dict(_dict(account.get("auth")).get("accessToken")).get("fineGrained"))
    here = [
        p
        for s in map(_dict, _list(told.get("scoped")))
        if _is_for(s, namespace, ())
        for p in _list(s.get("permissions"))
    ]
    return tuple(dict.fromkeys(p for p in (*here, *_list(told.get("global"))) if isinstance(p, str)))


def _is_for(scope: dict[str, Json], namespace: str, repos: Iterable[str]) -> bool:
    """Say whether a scope is of a namespace, or of all of the repos; of one that the Hub does not name, it may be."""
    entity = _dict(scope.get("entity"))
    kind, name = entity.get("type"), entity.get("name")
    if kind in ("user", "org"):
        return _same(name, namespace) or name == _EVERY
    if name is None:
        return True
    path = f"datasets/{name}" if kind == "dataset" else name
    return any(_same(path, repo) for repo in repos)


def _same(one: Json, other: str) -> bool:
    return isinstance(one, str) and one.casefold() == other.casefold()


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
