"""A namespace as the bot leaves it when it has run for long: many sources, and what is published of each.

Records, heads of cards and build keys come from the bot's own functions, with the locks of this checkout, so a cycle
over it finds nothing to do. What was measured is made up, and weights are a few bytes: no list of repos holds either.
It is written into the Hub's folder without going over HTTP.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import yaml

from bot import catalogue, source, toolchains
from bot.formats import recipes
from bot.formats.registry import Format, all_formats
from bot.hub.client import RECORD_FILE
from bot.hub.session import HUGGING_FACE
from bot.localhub import LocalHub, changes
from bot.localhub.objects import File, lfs_file, regular_file
from bot.localhub.repo import MAIN, LocalRepo
from bot.localhub.store import LFS_SUFFIXES
from bot.pages.cards import metadata
from bot.pages.plots import PICTURES
from bot.records.artifacts import (
    RECORD_VERSION,
    FileEntry,
    Json,
    ProvenBuild,
    Release,
    RepoRecord,
    SourceFile,
    SourceRef,
    ToolchainRef,
    Variant,
)
from bot.records.digests import content_digest
from bot.worker.sample import config
from tests.formats.hooks import hooks
from tests.pages.cards import examples
from tests.source import models

AUTHOR, OWNER = "microsoft", "demo"  # whose models are watched, and who publishes

# What a source of Microsoft's says of itself, beside its configuration.
_CARD = {
    "license": "mit",
    "license_link": "LICENSE",
    "language": ["multilingual", "ar", "zh", "cs", "da", "nl", "en", "fi", "fr", "de", "he", "hu", "it", "ja", "ko"],
    "pipeline_tag": "text-generation",
    "tags": ["nlp", "code"],
    "library_name": "transformers",
}
_CONFIGS: dict[str, Callable[[], dict[str, Json]]] = {
    "Phi-3-mini-4k-instruct": config.phi_3_mini_4k,
    "Phi-3-medium-4k-instruct": config.phi_3_medium,
    "Phi-3.5-mini-instruct": config.phi_3_5_mini,
    "phi-4": config.phi_4,
    "Phi-4-mini-instruct": config.phi_4_mini,
    "Phi-4-reasoning": config.phi_4_reasoning,
}
# Sizes of weights that a Hub can hold hundreds of. The factors of LongRoPE have the length of wider heads.
_SMALL: dict[str, Json] = {
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 8,
    "partial_rotary_factor": 1.0,
    "rope_scaling": None,
    "tie_word_embeddings": True,
}
_TENSORS = models.TENSORS | models.layers(1)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The number of sources, and the published variants of each."""

    sources: int
    variants: tuple[str, ...] = ("default",)

    @property
    def rows(self) -> Sequence[Variant]:
        """The rows of the catalogue."""
        return catalogue.select(self.variants)

    @property
    def publications(self) -> int:
        """How many repos hold them."""
        return self.sources * len({_suffix(v) for v in self.rows})


def fill(hub: LocalHub, shape: Shape, *, already: int = 0) -> None:
    """Put sources and publications into a Hub that holds the first ``already`` of them: about 10 ms a repo."""
    with _unsynced():
        for number in range(already, shape.sources):
            release = _release(hub, number)
            for suffix in sorted({_suffix(v) for v in shape.rows}):
                _publish(hub, release, [v for v in shape.rows if _suffix(v) == suffix])


@contextmanager
def changed_source(hub: LocalHub, number: int = 0) -> Iterator[str]:
    """Give a source new weights under its old name until the block ends; the block gets its id."""
    repo = hub.repo("model", AUTHOR, _name(number))
    assert repo is not None  # noqa: S101 - fill made it
    commit_files(hub, repo, {"model.safetensors": _weights(f"{number}, mended")}, "Mend the weights")
    yield repo.id
    commit_files(hub, repo, {"model.safetensors": _weights(f"{number}")}, "Put the old weights back")


def _release(hub: LocalHub, number: int) -> Release:
    """Put a source on the Hub and return it as the bot reads it."""
    config = list(_CONFIGS.values())[number % len(_CONFIGS)]() | _SMALL
    files = models.files(
        config__json=json.dumps(config, indent=2).encode(),
        model__safetensors=_weights(f"{number}"),
        README__md=f"---\n{yaml.safe_dump(_CARD)}---\n# {_name(number)}\n".encode(),
    )
    repo = hub.create_repo("model", AUTHOR, _name(number), private=False, author=AUTHOR)
    commit = commit_files(hub, repo, files, "Release")
    listed = tuple(
        SourceFile(path=path, size=len(content), digest=source.bytes_digest(content, lfs=path.endswith(LFS_SUFFIXES)))
        for path, content in sorted(files.items())
    )
    return Release(
        repo_id=repo.id,
        commit=commit,
        content_digest=content_digest(listed),
        files=listed,
        config=config,
        card=dict(_CARD),
    )


def _publish(hub: LocalHub, release: Release, variants: Sequence[Variant]) -> None:
    """Publish variants that share a repo, in the state in which the bot leaves it."""
    owner, name = OWNER, f"{release.name}{_suffix(variants[0])}"
    form = all_formats()[variants[0].format]
    builds, files = [], {"LICENSE": b"MIT License\n"} | {p: p.encode() for p in PICTURES}
    for variant in sorted(variants, key=lambda v: v.name):
        made = {
            path.format(model=release.name, name=variant.short_name.upper()): f"{variant.name} {path}".encode()
            for path in hooks(form.name).published
        }
        builds.append(_proven(release, variant, form, made))
        folder = form.path_in_repo(variant)
        files |= {f"{folder}/{path}" if folder else path: content for path, content in made.items()}
    record = RepoRecord(version=RECORD_VERSION, builds=tuple(builds))
    head = metadata.head(record, release, chats=True, endpoint=HUGGING_FACE)  # all of a card that lists have
    files |= {
        "README.md": f"{head}\n# {name}\n".encode(),
        RECORD_FILE: json.dumps(record.to_json(), indent=2).encode(),
    }
    repo = hub.create_repo("model", owner, name, private=False, author=owner)
    commit_files(hub, repo, files, f"Add {', '.join(v.name for v in variants)} of {release.label}")


def _proven(release: Release, variant: Variant, form: Format, files: Mapping[str, bytes]) -> ProvenBuild:
    lock = toolchains.lock_digest(form.name)
    key = recipes.key_of(release.content_digest, variant)
    example = examples.proven(variant.name, variant.precision, {}, (0.0212, 0.952))
    build = replace(
        example.build,
        build_key=key,
        source=SourceRef(repo_id=release.repo_id, commit=release.commit, content_digest=release.content_digest),
        variant=variant,
        toolchain=ToolchainRef(name=form.name, lock_digest=lock, versions=example.build.toolchain.versions),
        files=tuple(
            FileEntry(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
            for path, content in files.items()
        ),
        path_in_repo=form.path_in_repo(variant),
    )
    return ProvenBuild(build=build, evidence=replace(example.evidence, build_key=key))


def commit_files(hub: LocalHub, repo: LocalRepo, files: Mapping[str, bytes], title: str) -> str:
    """Put files into a repo of a Hub in this process; return the commit."""
    entries = [_stored(hub, repo, path, content) for path, content in files.items()]
    with repo.changing():
        landed = repo.land(
            MAIN,
            lambda tree: changes.apply([changes.put(entry) for entry in entries], tree),
            parent=None,
            author=repo.namespace,
            title=title,
            description="",
        )
    return landed.id


def _stored(hub: LocalHub, repo: LocalRepo, path: str, content: bytes) -> File:
    sha256 = hub.blobs.add(content)
    if not path.endswith(LFS_SUFFIXES):
        return regular_file(path, content)
    repo.own(sha256)
    return lfs_file(path, sha256=sha256, size=len(content))


def _name(number: int) -> str:
    return f"{list(_CONFIGS)[number % len(_CONFIGS)]}-{number:04}"


def _suffix(variant: Variant) -> str:
    return all_formats()[variant.format].repo_suffix(variant)


def _weights(seed: str) -> bytes:
    """Return a whole safetensors file whose content follows from ``seed``."""
    head = models.header(_TENSORS)
    size = max(e["data_offsets"][1] for name, e in head.items() if isinstance(e, dict) and name != "__metadata__")
    return models.framed(json.dumps(head).encode(), hashlib.shake_256(seed.encode()).digest(size))


@contextmanager
def _unsynced() -> Iterator[None]:
    """Leave out waiting for the disk: it guards against a power cut alone, and would take most of the time."""
    fsync = os.fsync
    os.fsync = lambda fd: None  # noqa: ARG005 - called by that name
    try:
        yield
    finally:
        os.fsync = fsync
