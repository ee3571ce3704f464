"""A namespace with something of everything: published, outdated, failed, waiting, refused, private."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

from bot import catalogue
from bot.formats.registry import all_formats
from bot.pages.status.collect import BotSnapshot, collect
from bot.pages.status.records import Status
from bot.records.artifacts import Failure, ProvenBuild, Release, RepoRecord
from bot.records.plans import Estimate, Job, Plan, PlannedVariant, Postponed, PublishedRepo, SourceState
from bot.state.attempts import Attempted
from bot.state.memory import Memory
from tests.pages.cards import examples as cards
from tests.pages.cards.examples import sha256

NOW = dt.datetime(2026, 12, 1, 12, 0, tzinfo=dt.UTC)
HUB = "https://huggingface.co"
NAMES = (
    "Phi-3.5-mini-instruct",
    "Phi-3-mini-4k-instruct",
    "Phi-3-mini-128k-instruct",
    "Phi-3-medium-128k-instruct",
    "phi-4",
    "Phi-4-mini-instruct",
    "Phi-4-reasoning",
    "Phi-3.5-MoE-instruct",
    "Phi-4-multimodal-instruct",
)


def release(name: str, *, private: bool = False) -> Release:
    """Return a release of that name."""
    return replace(
        cards.RELEASE,
        repo_id=f"microsoft/{name}",
        commit=sha256(name)[:40],
        content_digest=sha256(f"content of {name}"),
        private=private,
    )


def sighting(source: Release) -> SourceState:
    """Return what a list tells of a release."""
    return SourceState(
        repo_id=source.repo_id,
        commit=source.commit,
        content_digest=source.content_digest,
        private=source.private,
        gated=source.gated,
    )


def built(source: Release, proven: ProvenBuild, factor: float) -> ProvenBuild:
    """Return a build as if of another release, ``factor`` as large, and farther from the original by its root."""
    build = proven.build
    files = tuple(replace(f, size=int(f.size * factor)) for f in build.files)
    ref = replace(build.source, repo_id=source.repo_id, commit=source.commit, content_digest=source.content_digest)
    key = sha256(f"{source.repo_id} {build.variant.name}")
    evidence = proven.evidence
    distances = tuple(
        replace(
            d,
            figures=replace(d.figures, mean_kl=d.figures.mean_kl / factor**0.5),
            standard_errors=replace(d.standard_errors, mean_kl=d.standard_errors.mean_kl / factor**0.5),
        )
        for d in evidence.distances
    )
    return ProvenBuild(
        build=replace(build, source=ref, build_key=key, files=files),
        evidence=replace(evidence, build_key=key, distances=distances),
    )


def published(source: Release, factor: float = 1.0) -> Iterator[tuple[PublishedRepo, RepoRecord]]:
    """Return the four repos of a release."""
    for repo_id, record in cards.REPOS.values():
        name = repo_id.replace("Phi-3.5-mini-instruct", source.name)
        mine = cards.record(*(built(source, b, factor) for b in record.builds))
        yield shelved(name, source, mine), mine


def shelved(repo_id: str, source: Release, record: RepoRecord, *, private: bool = False) -> PublishedRepo:
    """Return what a list tells of a repo with that record."""
    return PublishedRepo(
        repo_id=repo_id,
        commit=sha256(repo_id)[:40],
        changed="2026-11-22T02:03:00+00:00",
        private=private,
        source=f"{source.repo_id}@{source.commit}",
        builds={b.build.variant.name: b.build.build_key for b in record.builds},
        contents={b.build.variant.name: source.content_digest for b in record.builds},
    )


def planned(source: Release, variant: str, reason: str = "new") -> PlannedVariant:
    """Return a variant that is to be built."""
    row = catalogue.all_variants()[variant]
    form = all_formats()[row.format]
    return PlannedVariant.from_json(
        {
            "variant": row.to_json(),
            "build_key": sha256(f"{source.repo_id} {variant} {reason}"),
            "repo_id": f"someone/{source.name}{form.repo_suffix(row)}",
            "path_in_repo": form.path_in_repo(row),
            "reason": reason,
        }
    )


def job(source: Release, *variants: PlannedVariant) -> Job:
    """Return a job."""
    return Job(
        release=source,
        format=variants[0].variant.format,
        variants=variants,
        toolchain_digest=sha256("lock"),
        estimate=Estimate(output=1, disk=1, memory=1),
    )


def attempted(source: Release, variant: PlannedVariant, attempts: int, again: str | None) -> Attempted:
    """Return what is remembered of a variant that failed."""
    return Attempted(
        release=source.label,
        variant=variant.variant.name,
        attempts=attempts,
        last="2026-12-01T02:00:00+00:00",
        next=again,
        step="verify",
        message=f"{variant.variant.name} failed: distance, short windows: mean KL 0.31 nats, at most 0.2 allowed",
        hint="It is not published. The evidence is in evidence.json.",
        exit_code=44,
    )


def known() -> BotSnapshot:
    """Return a namespace as the bot knows it."""
    sources = {name: release(name) for name in NAMES}
    secret = release("Phi-secret", private=True)
    shelves: dict[str, tuple[PublishedRepo, RepoRecord]] = {}
    factors = (1.0, 1.0, 1.0, 3.7, 3.8, 1.0, 3.8, 11.0)
    for name, factor in zip(NAMES, factors, strict=False):
        shelves |= {shelf.repo_id: (shelf, record) for shelf, record in published(sources[name], factor)}
    for gone in ("Phi-4-mini-instruct-4bit", "Phi-4-mini-instruct-onnx", "Phi-3.5-MoE-instruct-onnx"):
        del shelves[f"someone/{gone}"]
    hidden = cards.record(built(secret, cards.GGUF.builds[0], 1.0))
    shelves["someone/Phi-secret-GGUF"] = (shelved("someone/Phi-secret-GGUF", secret, hidden, private=True), hidden)

    mini, moe, medium = (
        sources["Phi-4-mini-instruct"],
        sources["Phi-3.5-MoE-instruct"],
        sources["Phi-3-medium-128k-instruct"],
    )
    stuck, waits = planned(mini, "onnx/cpu-int4"), planned(mini, "mlx/4bit")
    old = planned(medium, "gguf/q4_k_m", "outdated")
    moved = planned(sources["Phi-3-mini-128k-instruct"], "openvino/int4", "changed")
    return BotSnapshot(
        sightings=[
            *(sighting(s) for s in sources.values() if s.name != "Phi-4-multimodal-instruct"),
            replace(
                sighting(sources["Phi-4-multimodal-instruct"]),
                content_digest=None,
                problem="it asks for code from its repo to be run",
            ),
            sighting(secret),
        ],
        shelved=[shelf for shelf, _ in shelves.values()],
        records={name: record for name, (_, record) in shelves.items()},
        plan=Plan(
            jobs=(
                job(sources["Phi-3-mini-128k-instruct"], moved),
                job(sources["Phi-4-reasoning"], planned(sources["Phi-4-reasoning"], "gguf/q6_k")),
                job(secret, planned(secret, "mlx/4bit")),
            ),
            done=(),
            failures=(
                Failure(
                    release=moe.label,
                    variant="onnx/cpu-int4",
                    step="plan",
                    message="onnxruntime-genai's builder has no mixture of experts with LongRoPE",
                    hint="Choose other variants.",
                    exit_code=21,
                ),
                Failure(
                    release=sources["phi-4"].label,
                    variant="gguf/q6_k",
                    step="plan",
                    message="someone/phi-4-GGUF exists and holds no record of phi-bot",
                    hint="Publish under another name, or move that repo away.",
                    exit_code=33,
                ),
                Failure(
                    release=secret.label, variant="onnx/cpu-int4", step="plan", message="no", hint="no", exit_code=33
                ),
            ),
            postponed=(
                Postponed(release=mini.label, planned=stuck, why="failed", text="failed 3 times"),
                Postponed(release=mini.label, planned=waits, why="failed", text="failed once"),
                Postponed(release=medium.label, planned=old, why="outdated", text="outdated; built slowly"),
            ),
        ),
        memory=Memory(
            attempts={
                stuck.build_key: attempted(mini, stuck, 3, None),
                waits.build_key: attempted(mini, waits, 1, "2026-12-01T15:30:00+00:00"),
            }
        ),
    )


def status() -> Status:
    """Return the status of that namespace."""
    return collect(known(), hub=HUB, namespace="someone", now=NOW, run="https://github.com/o/r/actions/runs/1")
