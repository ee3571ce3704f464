"""Fine-tunes and adapters of Phi on the Hub: those of a model, the most downloaded first, or those of an author.

Each is found by one list, which is all that is asked: what is in its entries decides whether a model can be taken.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bot.hub import namespace, releases
from bot.hub.namespace import Listed
from bot.hub.origins import REPO
from bot.source.adapters import is_adapter

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

    from bot.records.artifacts import Json

LOOKED_AT = 100  # of the children of a model: one page

Kind = Literal["finetune", "adapter"]

_FIELDS: Any = ("cardData", "config", "disabled", "downloads", "gated", "lastModified", "private", "safetensors", "sha")
_FIELDS += ("siblings", "tags")
_WEIGHTS = "adapter_model.safetensors"
_CHILD = re.compile(r"base_model:(?:finetune|adapter):(.+)")


@dataclass(frozen=True, kw_only=True)
class Tune:
    """A fine-tune or an adapter, as a list tells of it.

    ``base`` is the model that its card names, "" for none, ``license`` the licence there, "" for none; ``downloads``
    are those that the Hub counts (of the last 30 days). ``unfit`` says why it cannot be taken whatever the policy, ""
    where it can.
    """

    listed: Listed
    kind: Kind
    base: str
    license: str
    downloads: int
    unfit: str


def children(api: "HfApi", base: str, kind: Kind) -> list[Tune]:
    """Return the models that name ``base`` as what they were made from, the most downloaded first; 100 at most."""
    tag = f"base_model:{kind}:{base}"
    infos = api.list_models(filter=tag, sort="downloads", limit=LOOKED_AT, expand=list(_FIELDS))
    return [_tune(info, kind, base) for info in infos if info.sha and REPO.fullmatch(info.id)]


def of_author(api: "HfApi", author: str) -> list[Tune]:
    """Return an author's fine-tunes of Phi, and adapters of models that are a Phi by name, in alphabetical order.

    Models of other families are left out: an author may have a thousand of them.
    """
    _, infos = namespace.listed_of(api, author, list(_FIELDS))
    return sorted(_of_phi(infos), key=lambda tune: tune.listed.repo_id)


def _of_phi(infos: Iterable["ModelInfo"]) -> Iterable[Tune]:
    for info in infos:
        base = _base(info)
        if not info.sha:
            continue
        if is_adapter(_files(info)):
            if releases.names_phi(base):
                yield _tune(info, "adapter", base)
        elif releases.is_phi(info):
            yield _tune(info, "finetune", base)


def _tune(info: "ModelInfo", kind: Kind, base: str) -> Tune:
    return Tune(
        listed=namespace.listed(info, usable=True),
        kind=kind,
        base=base,
        license=_license(info),
        downloads=info.downloads or 0,
        unfit=_unfit(info, kind),
    )


def _unfit(info: "ModelInfo", kind: Kind) -> str:
    if info.disabled:
        return "is disabled by the Hub"
    if kind == "adapter":
        names = _files(info)
        if not is_adapter(names):
            return "is called an adapter, and is not one alone"
        return "" if _WEIGHTS in names else f"has no {_WEIGHTS}"
    if not releases.is_phi(info):
        architectures = ", ".join(map(str, (info.config or {}).get("architectures") or ())) or "no architecture"
        return f"is not a Phi of full precision ({architectures})"
    return "" if releases.is_release(info) else "has no safetensors weights"


def _files(info: "ModelInfo") -> set[str]:
    return {sibling.rfilename for sibling in info.siblings or []}


def _base(info: "ModelInfo") -> str:
    found = (_CHILD.fullmatch(tag) for tag in info.tags or [])
    return next((m[1] for m in found if m and REPO.fullmatch(m[1])), "")


def _license(info: "ModelInfo") -> str:
    data: Json = info.card_data
    said = data.get("license") if data else None
    first = said[0] if isinstance(said, list) and len(said) == 1 else said
    return first if isinstance(first, str) else ""
