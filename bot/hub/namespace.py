"""Lists of a whole namespace: what sources are in it, and what this bot published there. No request per repo."""

import datetime as dt
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bot.errors import ForeignRepoError, RecordError
from bot.hub import commits, releases
from bot.hub.repo import Repo, accounts_of, commit_of
from bot.records.artifacts import Json, RepoRecord
from bot.records.plans import PublishedRepo

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo


_LOOKED_AT = 100  # repos, where a name's spelling is looked for
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A repo with a Phi in it, as the list of its owner's repos tells of it.

    ``usable`` is False where it holds no weights (any more) or the Hub disabled it, and for a model that is whole, and
    of a class that nothing here reads: ``new_class``, "" for a Phi.
    """

    repo_id: str
    commit: str
    changed: str
    gated: bool
    private: bool
    disabled: bool
    usable: bool
    new_class: str = ""


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """The content of a namespace: the repos that this bot made, by their ids, and those that it must not touch.

    ``owner`` is its name as the Hub spells it, "" where that is not known.
    """

    shelved: dict[str, PublishedRepo]
    foreign: frozenset[str]
    owner: str = ""

    def shelf(self, repo_id: str) -> PublishedRepo | None:
        """Return what a repo of ours holds; ids that differ in capitals alone are one on the Hub."""
        return self._by_id.get(repo_id.casefold())

    def is_foreign(self, repo_id: str) -> bool:
        """Say whether a repo is there and is not ours."""
        return repo_id.casefold() in self._foreign

    @cached_property
    def _by_id(self) -> dict[str, PublishedRepo]:
        return {repo_id.casefold(): shelf for repo_id, shelf in self.shelved.items()}

    @cached_property
    def _foreign(self) -> frozenset[str]:
        return frozenset(repo_id.casefold() for repo_id in self.foreign)


def sources(api: "HfApi", author: str) -> list[Listed]:
    """Return an owner's repos that are releases, or would be with their weights, in alphabetical order.

    Whole models of classes that are not Phi's are among them.
    """
    fields = ["cardData", "config", "disabled", "gated", "lastModified", "private", "safetensors", "sha"]
    fields += ["siblings", "tags"]
    _, infos = listed_of(api, author, fields)
    found = [listed(i, usable=releases.is_release(i)) for i in infos if i.sha and releases.is_phi(i)]
    named = [(i, releases.new_class(i)) for i in infos if i.sha]
    found += [replace(listed(i, usable=False), new_class=name) for i, name in named if name]
    return sorted(found, key=lambda one: one.repo_id)


def namespace(api: "HfApi", owner: str) -> Namespace:
    """Return what is published in a namespace, by one (paginated) list of its repos.

    A repo with a record whose card does not speak of it, because somebody edited it, is asked for its record.
    """
    owner, infos = listed_of(api, owner, ["cardData", "lastModified", "private", "sha", "siblings"])
    shelved: dict[str, PublishedRepo] = {}
    foreign = set()
    for info in infos:
        found = _shelved(api, info)
        if found is None:
            foreign.add(info.id)
        else:
            shelved[info.id] = found
    return Namespace(shelved=shelved, foreign=frozenset(foreign), owner=owner)


def spelling(api: "HfApi", owner: str) -> str | None:
    """Return a user's or an organisation's name as the Hub spells it, None where it knows of none (for this token).

    Repos are found by any spelling of their ids, and lists by the Hub's own alone. It is looked for where it costs
    least: among the names of the token's own account, then in the id of any repo.
    """
    for name in accounts_of(api):
        if name.casefold() == owner.casefold():
            return name
    found = (info.id.partition("/")[0] for info in api.list_models(search=f"{owner}/", limit=_LOOKED_AT))
    return next((name for name in found if name.casefold() == owner.casefold()), None)


def listed_of(api: "HfApi", owner: str, fields: list[Any]) -> tuple[str, list["ModelInfo"]]:
    """Return how the Hub spells an owner, as far as it can be known, and the owner's repos."""
    infos = [i for i in api.list_models(author=owner, expand=fields) if _is_of(owner, i)]
    spelled = infos[0].id.partition("/")[0] if infos else spelling(api, owner) or owner
    if not infos and spelled != owner:
        infos = [i for i in api.list_models(author=spelled, expand=fields) if _is_of(owner, i)]
    return spelled, infos


def _is_of(owner: str, info: "ModelInfo") -> bool:
    """Say whether a listed repo is an owner's by its id: what a list says becomes commands, paths and addresses."""
    author, _, name = info.id.partition("/")
    return author.casefold() == owner.casefold() and _NAME.fullmatch(name) is not None


def listed(info: "ModelInfo", *, usable: bool) -> Listed:
    """Return the entry of a list as this bot takes it. ``usable`` says whether it holds weights."""
    return Listed(
        repo_id=info.id,
        commit=str(info.sha),
        changed=_instant(info.last_modified),
        gated=bool(info.gated),
        private=bool(info.private),
        disabled=bool(info.disabled),
        usable=usable and not info.disabled,
    )


def _shelved(api: "HfApi", info: "ModelInfo") -> PublishedRepo | None:
    """Return what a repo of ours holds, None for one that is not ours."""
    files = {sibling.rfilename for sibling in info.siblings or []}
    said = _said(info)
    if commits.RECORD_FILE in files and said is None:
        try:
            found = commits.record(Repo(api=api, id=info.id))
        except (ForeignRepoError, RecordError):
            return None
        return _from_record(api, info, found[0]) if found else None
    if commits.RECORD_FILE in files and said is not None:
        return _shelf(api, info, *said)
    return _shelf(api, info, "", {}, {}) if files <= commits.UNTOUCHED else None


def _said(info: "ModelInfo") -> tuple[str, dict[str, str], dict[str, str]] | None:
    """Return what the head of a card says of its repo's record (cards/metadata.py), None where it says nothing."""
    data: Json = info.card_data
    own = data.get("phi_bot") if data else None
    if not isinstance(own, dict):
        return None
    source, builds, contents = own.get("source"), _texts(own.get("builds")), _texts(own.get("contents"))
    if not isinstance(source, str) or builds is None or contents is None or builds.keys() != contents.keys():
        return None
    return source, builds, contents


def _texts(value: Json) -> dict[str, str] | None:
    if not isinstance(value, dict) or not all(isinstance(v, str) for pair in value.items() for v in pair):
        return None
    return value


def _from_record(api: "HfApi", info: "ModelInfo", record: RepoRecord) -> PublishedRepo:
    builds = [b.build for b in record.builds]
    latest = max(builds, key=lambda b: b.created, default=None)
    source = latest.source if latest else None
    return _shelf(
        api,
        info,
        "" if source is None else f"{source.repo_id}@{source.commit}" if source.commit else source.repo_id,
        {b.variant.name: b.build_key for b in builds},
        {b.variant.name: b.source.content_digest for b in builds},
    )


def _shelf(
    api: "HfApi", info: "ModelInfo", source: str, builds: dict[str, str], contents: dict[str, str]
) -> PublishedRepo:
    return PublishedRepo(
        repo_id=info.id,
        commit=commit_of(info, api.endpoint),
        changed=_instant(info.last_modified),
        private=bool(info.private),
        source=source,
        builds=builds,
        contents=contents,
    )


def _instant(moment: dt.datetime | None) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds") if moment else ""
