"""Adapters on the Hub: the base that one names, as a release of its own, at a commit that is resolved once.

What a stranger's adapter_config.json names is looked for on the same Hub, and nowhere else: never in a folder here.
"""

from typing import TYPE_CHECKING, Protocol

from bot import source
from bot.errors import AdapterError, SourceError, TokenError, UnknownModelError, UnknownRevisionError
from bot.hub.errors import hub_errors
from bot.hub.origins import CONVERSION, REPO, STEPS, base_named
from bot.records.artifacts import Json, Release
from bot.records.digests import ADAPTER_CONFIG
from bot.source.lora import Lora

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo


class ReadRelease(Protocol):
    """Returns the release that a repo of a Hub holds at a revision."""

    def __call__(self, api: "HfApi", repo_id: str, revision: str | None) -> Release:
        """Read it."""


def base_of(api: "HfApi", lora: Lora, read: ReadRelease, *, where: str) -> Release:
    """Return the release that an adapter is to be merged into: what its config names, at the revision that it names.

    A base that is quantized (``…-bnb-4bit``, as for QLoRA) is followed to the model that it was made from, whose head
    is then taken. Raises AdapterError for a name that is none of a repo's, and for a base that is not followed to one
    of full precision; and what ``read`` raises, with the adapter named.
    """
    if not REPO.fullmatch(lora.base):
        raise AdapterError(
            f"{where} is an adapter of {lora.base[:100]!a}, which is not a repo on the Hub",
            hint=f"Ask its owner to name the base as owner/name in {ADAPTER_CONFIG} (base_model_name_or_path).",
        )
    try:
        name = _full_precision(api, lora, where)
        with hub_errors(api.endpoint, name):
            return read(api, name, lora.revision if name == lora.base else None)
    except AdapterError as error:
        if where in error.message:
            raise
        raise AdapterError(f"{where} is an adapter of {lora.base}: {error.message}", hint=error.hint) from error
    except (SourceError, TokenError, UnknownModelError, UnknownRevisionError) as error:
        raise type(error)(f"{where} is an adapter of {lora.base}: {error.message}", hint=error.hint) from error


def _full_precision(api: "HfApi", lora: Lora, where: str) -> str:
    """Return the repo of full precision that a base is, or was made from."""
    name, revision, seen = lora.base, lora.revision, set[str]()
    for _ in range(STEPS):
        seen.add(name)
        try:
            with hub_errors(api.endpoint, name, revision=revision):
                info = api.model_info(name, revision=revision)
        except UnknownModelError:
            if not CONVERSION.search(name):
                raise
            following: str | None = CONVERSION.sub("", name)
        else:
            if not _is_quantized(info):
                return name
            data: Json = info.card_data
            following = base_named(data.to_dict() if data else {})
            if following is None and CONVERSION.search(name):
                following = CONVERSION.sub("", name)
        if following is None or following in seen:
            break
        name, revision = following, None
    raise AdapterError(
        f"{where} is an adapter of {lora.base}, which is quantized, and nothing leads to what it was made from",
        hint=f"Write the model of full precision into {ADAPTER_CONFIG} (base_model_name_or_path).",
    )


def _is_quantized(info: "ModelInfo") -> bool:
    dtypes = (info.safetensors.parameters if info.safetensors else None) or {}
    return source.is_quantized(info.config or {}, dtypes) or CONVERSION.search(info.id) is not None
