"""Statements: for every published file, what it was made from and what was measured, in the words of SLSA provenance.

Each is an in-toto Statement v1 in an envelope (envelopes.py), and a repo's file of them has one a line. A statement is
made of the record and of the listing of the source, and of nothing else: equal input, equal bytes. What is said of
files that were there before stays as it was signed then, for who publishes now has not checked it again.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bot.publishing.envelopes import Envelope, Signer
from bot.records.artifacts import BuildRecord, FileEntry, Json, ProvenBuild, Release, RepoRecord, SourceFile, SourceRef
from bot.records.digests import digest_of, is_content
from bot.records.evidence import Evidence
from bot.records.json_text import parse

STATEMENTS_FILE = "phi-bot.intoto.jsonl"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
_ADDRESS = "https://github.com/phi-bot/phi-bot"
BUILDER = _ADDRESS
BUILD_TYPE = f"{_ADDRESS}/blob/main/docs/provenance.md#build-type-1"
_LINES = 2000  # of a file that is read: more than a repo has files


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A published file: its path in its repo, and its sha256 in hex."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement as it was read, with the envelope and the bytes of the line that it came in. All of it untrusted."""

    subjects: tuple[Subject, ...]
    content: dict[str, Any]
    envelope: Envelope
    line: bytes = field(repr=False)


def statement(proven: ProvenBuild, entry: FileEntry, release: Release | None) -> dict[str, Json]:
    """Return what is stated of one file of a build. Without a release, the files of the source are left out."""
    build, measured = proven.build, _measured(proven.evidence)
    dependencies = [*_sources(build, release), *_texts(build), _toolchain(build)]
    return {
        "_type": STATEMENT,
        "subject": [{"name": published_path(build, entry), "digest": {"sha256": entry.sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _recipe(build),
                "internalParameters": _decided(build),
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"phi-bot": build.bot_version}},
                "metadata": {"finishedOn": build.created},
                "byproducts": [
                    {"name": "evidence", "digest": {"phiBotEvidence": digest_of(measured)}, "annotations": measured}
                ],
            },
        },
    }


def published_path(build: BuildRecord, entry: FileEntry) -> str:
    """Return the path of a build's file in its repo."""
    return f"{build.path_in_repo}/{entry.path}" if build.path_in_repo else entry.path


def address_of(source: SourceRef, path: str = "") -> str | None:
    """Return the package URL of a source, or of a file in it; None for a folder, which is nowhere to be found."""
    if source.commit is None:
        return None
    file = f"#{quote(path)}" if path else ""
    return f"pkg:huggingface/{quote(source.repo_id)}@{source.commit}{file}"


def digest_set(file: SourceFile) -> dict[str, Json]:
    """Return the digest of a source's file as in-toto names it: sha256, or the id of its blob in git."""
    kind, _, digest = file.digest.partition(":")
    return {"sha256" if kind == "sha256" else "gitBlob": digest}


def _recipe(build: BuildRecord) -> dict[str, Json]:
    variant = build.variant
    return {
        "variant": variant.name,
        "precision": variant.precision,
        "target": variant.target,
        "quality": "calibrated" if variant.is_calibrated else "plain",
        "recipe": dict(variant.options),
    }


def _decided(build: BuildRecord) -> dict[str, Json]:
    """Return what no person asked for: the digests that decide the bytes, and how the original was read."""
    made_for = {
        "buildKey": build.build_key,
        "contentDigest": build.source.content_digest,
        "importanceMatrix": build.imatrix.sha256 if build.imatrix else None,
        "moments": build.calibration.sha256 if build.calibration else None,
        "readAs": build.read_as or None,
        "leftOut": build.left_out.to_json() if build.left_out else None,
    }
    return {name: value for name, value in made_for.items() if value is not None}


def _sources(build: BuildRecord, release: Release | None) -> Iterator[Json]:
    pairs = [(build.source, release), (build.base, release.base if release else None)]
    for (ref, held), role in zip(pairs, ("source", "base"), strict=True):
        if ref is None:
            continue
        address = address_of(ref)
        yield {"name": role, "annotations": {"repo": ref.repo_id}} | (
            {"uri": address, "digest": {"gitCommit": ref.commit}}
            if address
            else {"digest": {"phiBotContent": ref.content_digest}}
        )
        for file in sorted(held.files if held else (), key=lambda f: f.path):
            if is_content(file.path):
                where = {"uri": found} if (found := address_of(ref, file.path)) else {}
                yield {"name": f"{role}/{file.path}", "digest": digest_set(file)} | where


def _texts(build: BuildRecord) -> list[Json]:
    read = {(t.text, t.text_sha256) for t in (build.imatrix, build.calibration) if t is not None}
    return [{"name": f"calibration text {name}", "digest": {"phiBotText": digest}} for name, digest in sorted(read)]


def _toolchain(build: BuildRecord) -> Json:
    used = build.toolchain
    return {
        "name": f"toolchain {used.name}",
        "digest": {"phiBotLock": used.lock_digest},
        "annotations": dict(sorted(used.versions.items())),
    }


def _measured(evidence: Evidence) -> dict[str, Json]:
    rounding = evidence.rounding
    return {
        "runtime": evidence.runtime,
        "passed": [c.name for c in evidence.checks if c.passed],
        "failed": [c.name for c in evidence.checks if not c.passed],
        "reference": evidence.reference_digest,
        "gate": float(evidence.gate),
        "rounding": {"meanKL": float(rounding.mean_kl), "plainMeanKL": float(rounding.plain_kl)} if rounding else None,
        "distances": [
            {
                "side": d.side,
                "tokens": d.tokens,
                "meanKL": float(d.figures.mean_kl),
                "top1Agreement": float(d.figures.top1_agreement),
            }
            for d in evidence.recommended
        ],
    }


def statements_file(
    record: RepoRecord, new: Iterable[tuple[ProvenBuild, Release]], there: bytes, signer: Signer | None
) -> bytes:
    """Return the file of a repo with that record: a line for each file of the new builds, and those that still hold.

    ``there`` is the file as it was (b"" where there was none). Of that, lines stay, byte for byte, that speak of files
    which the record still has. Without a signer, the new ones are not signed.
    """
    held = {Subject(path=published_path(p.build, f), sha256=f.sha256) for p in record.builds for f in p.build.files}
    lines: dict[Subject, bytes] = {}
    for old in read_statements(there)[0]:
        lines |= dict.fromkeys((s for s in old.subjects if s in held), old.line)
    for proven, release in new:
        for entry in proven.build.files:
            payload = payload_of(statement(proven, entry, release))
            envelope = signer.sign(payload) if signer else Envelope(payload=payload)
            lines[Subject(path=published_path(proven.build, entry), sha256=entry.sha256)] = envelope.line()
    ordered = dict.fromkeys(lines[s] for s in sorted(lines, key=lambda s: s.path))
    return b"".join(line + b"\n" for line in ordered)


def payload_of(content: Json) -> bytes:
    """Return a statement as the bytes that are signed: JSON in ASCII, its keys sorted, no white space."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def read_statements(data: bytes) -> tuple[tuple[Statement, ...], tuple[str, ...]]:
    """Return the statements of a repo's file, and a line for each that cannot be read, saying which and why."""
    found: list[Statement] = []
    problems: list[str] = []
    lines = [line for line in data.split(b"\n") if line]
    if len(lines) > _LINES:
        return (), (f"it has {len(lines)} lines, more than {_LINES}",)
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_statement(line))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return tuple(found), tuple(problems)


def _statement(line: bytes) -> Statement:
    envelope = Envelope.read(line)
    content = parse(envelope.payload.decode("utf-8"))
    if not isinstance(content, dict) or content.get("_type") != STATEMENT:
        raise ValueError("it is not an in-toto Statement v1")
    subjects: list[Subject] = []
    for subject in _list(content.get("subject")):
        with suppress(KeyError, TypeError):
            subjects.append(Subject(path=str(subject["name"]), sha256=str(subject["digest"]["sha256"])))
    if not subjects:
        raise ValueError("it speaks of no file")
    return Statement(subjects=tuple(subjects), content=content, envelope=envelope, line=line)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
