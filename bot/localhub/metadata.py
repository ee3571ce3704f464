"""The metadata of a repo, derived from its files as the Hub derives it."""

import json
import math
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bot.localhub import front_matter
from bot.localhub.blobs import Blobs
from bot.localhub.objects import Commit, Tree
from bot.localhub.repo import LocalRepo
from bot.localhub.settings import Settings

MAX_CARD = 4 << 20  # bytes
_MAX_CONFIG = 4 << 20
_MAX_SAFETENSORS_HEADER = 25 << 20
_DTYPE = re.compile(r"[A-Z][A-Z0-9_]{0,15}", re.ASCII)
_MAX_DIMENSIONS = 8
_QUANTIZED = ("quant_method", "bits", "load_in_4bit", "load_in_8bit")  # what is shown of quantization_config
_FORMATS = {".safetensors": "safetensors", ".gguf": "gguf", ".onnx": "onnx"}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The metadata of a repo at a commit."""

    card: dict[str, Any]
    config: dict[str, Any]  # architectures, model_type, and how it is quantized, where config.json has them
    library: str | None
    pipeline_tag: str | None
    tags: tuple[str, ...]
    relation: str | None  # to its base models: as its card says, or as its files tell
    parameters: dict[str, int]  # by type of number, counted in the headers of the safetensors files


@dataclass(frozen=True, kw_only=True)
class RepoView:
    """A repo as it was at one moment: what is said of it fits together, even while it changes or is deleted."""

    repo: LocalRepo
    settings: Settings
    commit: Commit
    tree: Tree
    known: Metadata

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.tree.values())


def view(repo: LocalRepo, revision: str) -> RepoView:
    """Return a repo as it is now at a revision; a 404 when either is not there."""
    commit = repo.resolve(revision)
    return RepoView(
        repo=repo, settings=repo.settings(), commit=commit, tree=repo.tree(commit), known=metadata_of(repo, commit)
    )


@lru_cache(maxsize=4096)
def metadata_of(repo: LocalRepo, commit: Commit) -> Metadata:
    """Return what the files of a commit say."""
    tree = repo.tree(commit)
    card = front_matter.metadata(read_text(repo.blobs, tree, "README.md", most=MAX_CARD))
    config = _config(read_text(repo.blobs, tree, "config.json", most=_MAX_CONFIG))
    library = _text(card.get("library_name")) or ("transformers" if config.get("architectures") else None)
    pipeline = _text(card.get("pipeline_tag"))
    if not pipeline and any(a.endswith("ForCausalLM") for a in config.get("architectures", [])):
        pipeline = "text-generation"
    relation = _relation(card, config, tree, library)
    return Metadata(
        card=card,
        config=config,
        library=library,
        pipeline_tag=pipeline,
        tags=_tags(card, config, tree, (library, pipeline, relation)),
        relation=relation,
        parameters=_parameters(repo.blobs, tree),
    )


def read_text(blobs: Blobs, tree: Tree, path: str, *, most: int) -> str:
    """Return a file of a tree as text; nothing when it is missing or larger than ``most`` bytes."""
    file = tree.get(path)
    if file is None or file.size > most:
        return ""
    try:
        return blobs.path(file.sha256).read_bytes().decode(errors="replace")
    except FileNotFoundError:  # an LFS file that was deleted for good
        return ""


def _relation(card: dict[str, Any], config: dict[str, Any], tree: Tree, library: str | None) -> str | None:
    """Return what a repo is to its base models: a card that names them need not say it."""
    bases = front_matter.texts(card.get("base_model"))
    if not bases:
        return None
    if said := _text(card.get("base_model_relation")):
        return said
    if len(bases) > 1:
        return "merge"
    if library == "peft" or "adapter_config.json" in tree:
        return "adapter"
    quantized = bool(_quantized(config)) or any(p.endswith(".gguf") for p in tree)
    return "quantized" if quantized else "finetune"


def _tags(
    card: dict[str, Any], config: dict[str, Any], tree: Tree, derived: tuple[str | None, str | None, str | None]
) -> tuple[str, ...]:
    library, pipeline, relation = derived
    found = [library, *(tag for suffix, tag in _FORMATS.items() if any(p.endswith(suffix) for p in tree))]
    found += [config.get("model_type"), pipeline, *_quantized(config), *front_matter.texts(card.get("tags"))]
    found += front_matter.texts(card.get("language"))
    for base in front_matter.texts(card.get("base_model")):
        found.append(f"base_model:{base}")
        if relation:
            found.append(f"base_model:{relation}:{base}")
    found += [f"dataset:{d}" for d in front_matter.texts(card.get("datasets"))]
    found += [f"license:{name}" for name in front_matter.texts(card.get("license"))]
    return tuple(dict.fromkeys(tag for tag in found if tag))


def _config(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    found: dict[str, Any] = {}
    if architectures := [a for a in front_matter.texts(value.get("architectures")) if a]:
        found["architectures"] = architectures
    if model_type := _text(value.get("model_type")):
        found["model_type"] = model_type
    if isinstance(quantized := value.get("quantization_config"), dict):
        found["quantization_config"] = {
            k: v for k in _QUANTIZED if isinstance(v := quantized.get(k), (bool, int)) or _text(v)
        }
    return found


def _quantized(config: dict[str, Any]) -> list[str]:
    """Return the tags that tell how a model is quantized, by its config.json alone."""
    said = config.get("quantization_config", {})
    bits = 4 if said.get("load_in_4bit") is True else 8 if said.get("load_in_8bit") is True else said.get("bits")
    return [*([f"{bits}-bit"] if bits in (4, 8) else []), *front_matter.texts(said.get("quant_method"))]


def _parameters(blobs: Blobs, tree: Tree) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path, file in tree.items():
        if "/" not in path and path.endswith(".safetensors"):
            for kind, count in _safetensors_counts(blobs, file.sha256).items():
                counts[kind] = counts.get(kind, 0) + count
    return counts


@lru_cache(maxsize=4096)
def _safetensors_counts(blobs: Blobs, sha256: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    try:
        with blobs.path(sha256).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_SAFETENSORS_HEADER:
                return {}
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                kind, shape = tensor["dtype"], tensor["shape"]
                if not _DTYPE.fullmatch(kind) or len(shape) > _MAX_DIMENSIONS or any(n > 2**48 for n in shape):
                    return {}  # made to be costly
                counts[kind] = counts.get(kind, 0) + math.prod(shape)
    except (OSError, ValueError, RecursionError, struct.error, TypeError, KeyError, AttributeError):
        return {}
    return counts


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
