"""Artifacts as an honest machine leaves them, without its toolchains: each passes every check of who promotes."""

import datetime as dt
import hashlib
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi

import bot
from bot import catalogue, toolchains
from bot.building import reference
from bot.config import Config
from bot.formats import recipes
from bot.formats.registry import all_formats
from bot.hub import client
from bot.localhub import RunningHub
from bot.pages import figures
from bot.records.artifacts import Artifact, BuildRecord, Cost, FileEntry, Imatrix, Release, SourceRef, ToolchainRef
from bot.records.evidence import CHECKS, EVIDENCE_VERSION, Check, Evidence, Side, judge
from bot.source.prompt import Prompt
from bot.workspace import write_json
from tests.formats.hooks import hooks
from tests.pages.cards.examples import GGUF, cost, distance
from tests.source import adapters, models

MODEL = "microsoft/Phi-9-mini"
IMATRIX = Imatrix(text=recipes.TEXT, text_sha256=recipes.text_digest(), sha256="b" * 64, chunks=25, tokens=12800)


def release(hub: RunningHub, repo_id: str = MODEL, **changes: bytes | None) -> Release:
    """Put a small model on the Hub, and return it as a release."""
    return client.connect(hub.url, hub.token).release(put(hub, repo_id, **changes))


def put(hub: RunningHub, repo_id: str, **changes: bytes | None) -> str:
    """Put a small model on the Hub, and return its repo."""
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(repo_id)
    for name, content in models.files(**changes).items():
        api.upload_file(repo_id=repo_id, path_in_repo=name, path_or_fileobj=content)
    return repo_id


def adapter(hub: RunningHub, repo_id: str, *, base: str = MODEL) -> Release:
    """Put an adapter of a small model that is there on the Hub, and return it as a release."""
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(repo_id)
    changed = {"base_model.model.model.norm.weight": adapters.numbers(1, 4)}
    files = adapters.adapter_files(changed, target_modules=[], base_model_name_or_path=base)
    for name, content in files.items():
        api.upload_file(repo_id=repo_id, path_in_repo=name, path_or_fileobj=content)
    return client.connect(hub.url, hub.token).release(repo_id)


def artifact(folder: Path, of: Release, name: str = "gguf/q4_k_m", *, kl: float = 0.001) -> Artifact:
    """Return what building and verifying a variant leaves in a folder."""
    row = catalogue.all_variants()[name]
    form = all_formats()[row.format]
    lock = toolchains.lock_digest(row.format)
    key = recipes.key_of(of.content_digest, row)
    where = folder / key[:16]
    entries = []
    for template, text in hooks(row.format).files.items():
        path, content = (
            template.format(model=MODEL.split("/")[1], name=row.short_name),
            text.format(name=row.short_name).encode(),
        )
        (where / "files").mkdir(parents=True, exist_ok=True)
        (where / "files" / path).write_bytes(content)
        entries.append(FileEntry(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    (where / "notices").mkdir()
    (where / "notices" / "LICENSE").write_bytes(models.files()["LICENSE"])
    build = BuildRecord(
        build_key=key,
        source=SourceRef(repo_id=of.repo_id, commit=of.commit, content_digest=of.content_digest),
        variant=row,
        toolchain=ToolchainRef(name=row.format, lock_digest=lock, versions={form.packages[0]: "1.0"}),
        files=tuple(sorted(entries, key=lambda e: e.path)),
        cost=Cost(seconds=1.0, peak_memory=1_000_000),
        bot_version=bot.__version__,
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        path_in_repo=form.path_in_repo(row),
        imatrix=IMATRIX if recipes.needs_matrix(row) else None,
        base=None
        if of.base is None
        else SourceRef(repo_id=of.base.repo_id, commit=of.base.commit, content_digest=of.base.content_digest),
    )
    proof = evidence(build, of, kl=kl)
    write_json(where / "build.json", build.to_json())
    write_json(where / "release.json", of.to_json())
    write_json(where / "prompt.json", Prompt(text="<|user|>\nHello<|end|>\n<|assistant|>\n").to_json())
    write_json(where / "evidence.json", proof.to_json())
    return Artifact(folder=str(where), build=build, evidence=proof)


def evidence(build: BuildRecord, of: Release, *, kl: float) -> Evidence:
    """Return evidence with a mean KL on each side that the original has; it passes up to 1.5 nats."""
    form = all_formats()[build.variant.format]
    sides: tuple[Side, ...] = ("short", "long") if figures.switch(of) is not None else ("short",)
    measured = replace(
        GGUF.builds[0].evidence,
        version=EVIDENCE_VERSION,
        build_key=build.build_key,
        checks=tuple(Check(name=name, passed=True, detail="as it should be") for name in CHECKS),
        distances=tuple(distance(side, kl, 0.95) for side in sides),
        stretches=(),
        rounding=cost(kl, min(kl, 1.0)),
        known_behaviours=form.known_behaviours(of.config),
        read_differently=(),
        reference_digest=reference.digest(of),
    )
    return judge(measured, Config().times(build.variant.precision))
