"""Releases on the Hub: finding them, and reading one at one commit."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bot import format_folders, source
from bot.errors import AdapterError
from bot.hub import adapters
from bot.hub.download import read_small
from bot.hub.headers import tensors
from bot.hub.origins import origin_of
from bot.hub.repo import Repo, commit_of
from bot.records.artifacts import Json, Release, SourceFile
from bot.records.digests import ADAPTER_CONFIG, content_digest
from bot.source import copies
from bot.source.adapters import is_adapter
from bot.source.config import CONFIG_BYTES, bad_config, layout_of
from bot.source.listing import INDEX, INDEX_BYTES, SINGLE
from bot.source.lora import Lora, read_lora
from bot.source.meaning import NATIVE
from bot.source.strict import parse_object
from bot.source.text_parts import TEXT_PARTS, left_out_of, said
from bot.source.tokenizer import damaged_tokenizer

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

# What conversions call themselves, in the name or in a tag: those of the formats here, and others.
_OURS = [re.escape(name) for look in format_folders.looks().values() for name in look.repo_names]
_OTHERS = "gptq|awq|exl[23]|bnb|bitsandbytes|n?v?fp[48]|u?int[248]|[2-8]-?bits?|q[2-8]"
_KINDS = "|".join([*_OURS, _OTHERS])
_NAMED = re.compile(rf"(^|[-_.])({_KINDS})([-_.]|$)", re.IGNORECASE)
_TAGS = frozenset({"gptq", "awq", "exl2", "bitsandbytes", "4-bit", "8-bit", "quantized", "adapter"}) | {
    tag for look in format_folders.looks().values() for tag in look.repo_tags
}
_OF_KEY = frozenset({"gptq", "awq", "exl2", "bitsandbytes", "4-bit", "8-bit"})  # made of quantization_config by the Hub

_READ = NATIVE | TEXT_PARTS  # classes to their model_type
_PHI = re.compile(r"(^|[-_./])phi[-_.]?[1-9]", re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")


def is_phi(info: "ModelInfo") -> bool:
    """Say whether a listed repo is a base or instruct Phi by its configuration, and not a conversion of another one.

    Its weights tell whether it is quantized, where the Hub knows their types: a key that a merge left over does not,
    nor do the tags that the Hub makes of that key.
    """
    return (_has_own_class(info) or _may_be_copy(info)) and _is_original(info)


def new_class(info: "ModelInfo") -> str:
    """Return the class of a listed model that is whole and no conversion, and of a class that nothing here reads.

    Returns "" for any other. One that says a known class and another ``model_type`` is called by the latter.
    """
    config = info.config or {}
    name = source.meant_class(config)
    if name in _READ:
        name = str(config.get("model_type"))
    known = _has_own_class(info) or bool(copies.layout_of(config))  # which copies have, and others may
    return name if name and not known and _has_weights(info) and _is_original(info) else ""


def _has_own_class(info: "ModelInfo") -> bool:
    config = info.config or {}
    name = source.meant_class(config)
    return name in _READ and config.get("model_type") == _READ[name]


def _is_original(info: "ModelInfo") -> bool:
    """Say whether a listed repo is of full precision, and no conversion or adapter of another one."""
    config = info.config or {}
    card = _card(info)
    tags = set(info.tags or [])
    dtypes = (info.safetensors.parameters if info.safetensors else None) or {}
    quantized = source.is_quantized(config, dtypes)
    own = {t.lower() for t in tags}
    if dtypes and not quantized:
        own -= _OF_KEY - {str(t).lower() for t in card.get("tags") or ()}
    name = info.id.rsplit("/", 1)[-1]
    return (
        not quantized
        and card.get("base_model_relation") not in ("quantized", "adapter")
        and not any(t.startswith(("base_model:quantized:", "base_model:adapter:")) for t in tags)
        and not own & _TAGS
        and not _NAMED.search(name)
    )


def _may_be_copy(info: "ModelInfo") -> bool:
    """Say whether a listed Llama or Mistral names itself or its base a Phi: reading it tells whether it is one."""
    base = _card(info).get("base_model")
    named = [info.id, *(base if isinstance(base, list) else [base])]
    return bool(copies.layout_of(info.config or {})) and any(isinstance(n, str) and _PHI.search(n) for n in named)


def names_phi(repo_id: str) -> bool:
    """Say whether a repo calls itself a Phi."""
    return _PHI.search(repo_id) is not None


def is_release(info: "ModelInfo") -> bool:
    """Say whether such a repo has its own weights, as safetensors, and may be read."""
    return is_phi(info) and _has_weights(info) and not info.disabled


def _has_weights(info: "ModelInfo") -> bool:
    names = {sibling.rfilename for sibling in info.siblings or []}
    return "config.json" in names and any(n.endswith(".safetensors") and "/" not in n for n in names)


def release(api: "HfApi", repo_id: str, revision: str | None) -> Release:
    """Return the release that a repo holds at a revision, checked by its listing and its config.json.

    Raises what ``bot.source`` raises for unsafe names, adapters, pickles, missing shards and configurations.
    """
    return _release(api, repo_id, revision, whole=False)


def base_of(api: "HfApi", lora: Lora, *, where: str) -> Release:
    """Return the release that an adapter is to be merged into. Raises what ``adapters.base_of`` raises."""
    return adapters.base_of(api, lora, partial(_release, whole=True), where=where)


def _release(api: "HfApi", repo_id: str, revision: str | None, *, whole: bool) -> Release:
    """Return a release; an adapter alone may not be one that is to be ``whole``."""
    info = api.model_info(repo_id, revision=revision)
    if _ID.fullmatch(info.id):  # it becomes commands, paths and addresses
        repo_id = info.id
    commit = commit_of(info, api.endpoint)
    repo = Repo(api=api, id=repo_id)
    by_path = repo.files(commit)
    if is_adapter(by_path):
        if whole:
            raise AdapterError(
                f"{repo_id} is an adapter itself",
                hint="Merge the two with peft (merge_and_unload(), then save_pretrained), and give the merged model.",
            )
        return _adapter(repo, info, commit, by_path)
    # An index beside a single file of weights is none of the model's files; config.json is held to its size below.
    passed = {"config.json", *([INDEX] if SINGLE in by_path else [])}
    named = {path: f.size for path, f in by_path.items() if source.is_wanted(path) and path not in passed}
    source.check_sizes(named.items(), where=repo_id)
    listing = source.list_files(by_path, partial(_object, repo, commit, by_path), where=repo_id)
    there = _config(repo, commit, by_path["config.json"])
    layout = layout_of(there)
    config, read = source.check_config(there, where=repo_id, read=partial(_of_tokenizer, repo, commit, by_path))
    wanted = tuple(by_path[name] for name in listing.files)
    copied = bool(copies.layout_of(there))
    origin, card = origin_of(_card(info), partial(_card_of, api)) if copied else ("", _card(info))
    found = Release(
        repo_id=repo_id,
        commit=commit,
        content_digest=content_digest(wanted),
        files=wanted,
        config=config,
        card=card,
        gated=bool(info.gated),
        private=bool(info.private),
        notes=listing.notes,
        layout=layout,
        origin=origin,
    )
    if layout in TEXT_PARTS:
        left_out = left_out_of(tensors(api, found), layout, where=found.label)
        return replace(found, left_out=left_out, read_as=said(layout, left_out))
    return replace(found, read_as=read[0] if layout else "")


def _adapter(repo: Repo, info: "ModelInfo", commit: str, by_path: Mapping[str, SourceFile]) -> Release:
    """Return the release that an adapter is with its base. Reads its config, and the header of its weights."""
    files = {path: by_path[path] for path in [ADAPTER_CONFIG, *source.adapter_files(by_path, where=repo.id)]}
    source.check_sizes(((path, f.size) for path, f in files.items()), where=repo.id)
    try:
        config = _object(repo, commit, by_path, ADAPTER_CONFIG)
    except ValueError as error:
        raise AdapterError(
            f"{ADAPTER_CONFIG} of {repo.id} {error}", hint="Ask its owner to save the adapter again."
        ) from error
    wanted = tuple(file for _, file in sorted(files.items()))
    own = Release(
        repo_id=repo.id,
        commit=commit,
        content_digest=content_digest(wanted),
        files=wanted,
        config={},
        card=_card(info),
        gated=bool(info.gated),
        private=bool(info.private),
        adapter=config,
    )
    lora = read_lora(config, where=repo.id)
    header = tensors(repo.api, own)
    return source.adapted(own, base_of(repo.api, lora, where=repo.id), source.vocabulary_of(header))


def _object(repo: Repo, commit: str, by_path: Mapping[str, SourceFile], name: str) -> dict[str, Json]:
    """Return the JSON object in a file of a repo. Raises ValueError, saying what it is instead."""
    file = by_path[name]
    if file.size > INDEX_BYTES:
        raise ValueError(f"has {file.size} bytes, more than {INDEX_BYTES}")
    return parse_object(read_small(repo, commit, file))


def _of_tokenizer(repo: Repo, commit: str, by_path: Mapping[str, SourceFile], name: str) -> dict[str, Json]:
    """Return the JSON object in a file of a tokenizer, {} where there is none. Raises DamagedTokenizerError."""
    try:
        return _object(repo, commit, by_path, name) if name in by_path else {}
    except ValueError as error:
        raise damaged_tokenizer(name, error) from error


def _config(repo: Repo, commit: str, file: SourceFile) -> dict[str, Json]:
    if file.size > CONFIG_BYTES:
        raise bad_config(repo.id, f"has {file.size} bytes, more than {CONFIG_BYTES}")
    try:
        return parse_object(read_small(repo, commit, file))
    except ValueError as error:
        raise bad_config(repo.id, str(error)) from error


def _card_of(api: "HfApi", repo_id: str) -> dict[str, Json] | None:
    """Return the card's metadata of a repo; None where the Hub shows none of that name."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return _card(api.model_info(repo_id))
    except RepositoryNotFoundError:
        return None


def _card(info: "ModelInfo") -> dict[str, Json]:
    data: Json = info.card_data
    card: dict[str, Json] = data.to_dict() if data else {}
    card.pop("model-index", None)  # the original's own results are not the conversion's
    return card
