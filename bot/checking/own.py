"""What a repo of this bot's says of itself: record, files, statements and signatures, each held against the others."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.checking.findings import NOT_SEEN, Finding, contradicted, left_open, note, proven, some
from bot.errors import RecordError
from bot.formats import recipes
from bot.formats.registry import all_formats
from bot.hub.client import RECORD_FILE, Hub
from bot.hub.contents import READ_BYTES
from bot.pages.plots import PICTURES
from bot.publishing.envelopes import PublicKey
from bot.publishing.statements import (
    BUILD_TYPE,
    PREDICATE,
    STATEMENTS_FILE,
    Statement,
    Subject,
    published_path,
    read_statements,
    statement,
)
from bot.records.artifacts import (
    RECORD_VERSION,
    BuildRecord,
    FileEntry,
    Json,
    MalformedRecordError,
    ProvenBuild,
    Release,
    RepoRecord,
    SourceFile,
    SourceRef,
)
from bot.source import NOTICES
from bot.source.strict import parse_object

_SOURCES = 50  # repos and commits that a record may have asked for
_SMALL_BYTES = 50_000_000  # of all files that are read to be hashed here
_ASKING = 10_000  # bytes that a request counts as, however small the file is
_BESIDE = frozenset({"README.md", ".gitattributes", RECORD_FILE, STATEMENTS_FILE, *PICTURES, *NOTICES})


@dataclass(frozen=True, kw_only=True)
class Published:
    """A repo at a commit, with its files by their paths, and the Hub that has it."""

    hub: Hub
    repo_id: str
    commit: str
    files: Mapping[str, SourceFile]

    def read(self, path: str) -> bytes:
        """Return the content of a small file. Raises RecordError above 10 MB."""
        return self.hub.read(self.repo_id, self.commit, self.files[path])


def record_of(repo: Published) -> tuple[RepoRecord | None, Finding]:
    """Return the record of a repo, None where there is none that can be read, and what is to be said of it."""
    about = "record"
    if RECORD_FILE not in repo.files:
        return None, left_open(
            about, f"there is no {RECORD_FILE}: phi-bot did not make this repo, or says nothing of it"
        )
    try:
        content = parse_object(repo.read(RECORD_FILE))
        if (which := _other_version(content)) is not None:
            return None, left_open(about, f"{RECORD_FILE} is of {which} phi-bot: this one cannot read it")
        record = RepoRecord.from_json(content)
    except MalformedRecordError as error:
        made = left_open if error.known else contradicted  # a key that is not known may be another phi-bot's
        return None, made(about, f"{RECORD_FILE} {error}")
    except ValueError as error:
        return None, contradicted(about, f"{RECORD_FILE} {error}")
    except RecordError as error:  # what the Hub or the network does is not the repo's fault
        return None, contradicted(about, error.message)
    said = f"{RECORD_FILE} is valid; builds in it: {len(record.builds)}"
    return record, proven(about, said) if record.builds else left_open(about, f"{RECORD_FILE} speaks of no build")


def _other_version(content: dict[str, Json]) -> str | None:
    version = content.get("version")
    if type(version) is not int or version == RECORD_VERSION:
        return None
    return "a newer" if version > RECORD_VERSION else "an older"


def files(repo: Published, record: RepoRecord) -> Iterator[Finding]:
    """Yield whether the files of a repo are those of its record, by the Hub's own hashes where it has them."""
    about = "files"
    wrong: list[str] = []
    unread: list[str] = []
    entries = _entries(record)
    room = _SMALL_BYTES
    for path, entry in entries.items():
        there = repo.files.get(path)
        if there is None:
            wrong.append(f"{path} is missing")
            continue
        if there.size == entry.size <= READ_BYTES and not there.is_lfs:
            room -= max(there.size, _ASKING)
            if room < 0:
                unread.append(path)
                continue
        if there.size != entry.size or not _is_same(repo, there, entry):
            wrong.append(f"{path} has another size or sha256")
    if wrong:
        yield contradicted(about, f"{len(wrong)} of {len(entries)} are not as they were built: {some(wrong)}")
    elif len(unread) < len(entries):
        yield proven(about, f"{len(entries) - len(unread)} of {len(entries)} have the size and sha256 of the record")
    if unread:
        yield left_open(about, f"not read, after {_SMALL_BYTES // 1_000_000} MB of small files: {some(unread)}")
    if more := beyond(repo, record):
        yield left_open(about, f"the record does not speak of {some(more)}")


def beyond(repo: Published, record: RepoRecord) -> list[str]:
    """Return the files that a record does not speak of, but for those that every repo of the bot's has."""
    return sorted(repo.files.keys() - _entries(record).keys() - _BESIDE)


def _is_same(repo: Published, there: SourceFile, entry: FileEntry) -> bool:
    if there.is_lfs:
        return there.digest == f"sha256:{entry.sha256}"
    if there.size > READ_BYTES:
        return False  # the Hub stores none so large without a sha256
    return hashlib.sha256(repo.read(there.path)).hexdigest() == entry.sha256


def _entries(record: RepoRecord) -> dict[str, FileEntry]:
    return {published_path(p.build, f): f for p in record.builds for f in p.build.files}


@dataclass(frozen=True, kw_only=True)
class Stated:
    """The statements of a repo, and the releases that the Hub still has, by build key."""

    statements: tuple[Statement, ...]
    problems: tuple[str, ...]
    releases: Mapping[str, Release]


def stated(repo: Published, releases: Mapping[str, Release]) -> Stated | None:
    """Return what a repo states, None where it has no such file."""
    if STATEMENTS_FILE not in repo.files:
        return None
    try:
        found, problems = read_statements(repo.read(STATEMENTS_FILE))
    except RecordError as error:
        found, problems = (), (error.message,)
    return Stated(statements=found, problems=problems, releases=releases)


def statements(record: RepoRecord, found: Stated | None) -> Iterator[Finding]:
    """Yield whether each file has a statement that says what the record and the source's listing do."""
    about = "statements"
    if found is None:
        yield left_open(about, f"there is no {STATEMENTS_FILE}")
        return
    if found.problems:
        yield contradicted(about, f"{STATEMENTS_FILE} cannot be read whole: {some(found.problems)}")
    by_subject = _by_subject(found.statements)
    missing: list[str] = []
    unknown: list[str] = []
    wrong: list[str] = []
    count = 0
    for proven_build in record.builds:
        for entry in proven_build.build.files:
            path = published_path(proven_build.build, entry)
            every = by_subject.get(Subject(path=path, sha256=entry.sha256), [])
            own = [s for s in every if _is_known(s)]
            missing += [] if every else [path]
            unknown += [path] if len(own) < len(every) else []
            said = {d for s in own for d in _differences(s, proven_build, entry, found.releases)}
            wrong += [f"{path}: {d}" for d in sorted(said)]
            count += bool(own) and not said
    if wrong:
        yield contradicted(about, f"they say otherwise than the record: {some(wrong)}")
    if missing:
        yield left_open(about, f"nothing is stated of {some(missing)}")
    if unknown:
        yield left_open(about, f"of a kind that this phi-bot does not know: {some(unknown)}")
    if count:
        yield proven(about, f"{count} of {len(_entries(record))} files have one that says what the record says")


def _by_subject(found: Sequence[Statement]) -> dict[Subject, list[Statement]]:
    by_subject: dict[Subject, list[Statement]] = {}
    for one in found:
        for subject in one.subjects:
            by_subject.setdefault(subject, []).append(one)
    return by_subject


def _is_known(found: Statement) -> bool:
    """Say whether a statement is of this version's kind. Of another one nobody can say here what it should hold."""
    kind = (found.content.get("predicateType"), _at(found.content, "buildDefinition", "buildType"))
    return kind == (PREDICATE, BUILD_TYPE)


def _differences(
    found: Statement, proven_build: ProvenBuild, entry: FileEntry, releases: Mapping[str, Release]
) -> Iterator[str]:
    """Yield the parts of a statement that say otherwise than the record and, where it is still there, the source."""
    release = releases.get(proven_build.build.build_key)
    content, wanted = found.content, statement(proven_build, entry, release)
    for part in ("externalParameters", "internalParameters"):
        if _at(content, "buildDefinition", part) != _at(wanted, "buildDefinition", part):
            yield part
    if _at(content, "runDetails") != _at(wanted, "runDetails"):
        yield "runDetails"
    there, should = _dependencies(content), _dependencies(wanted)
    if release is None:  # then nobody can say which files it had
        there = {name: d for name, d in there.items() if "/" not in name}
    if there != should:
        odd = sorted(n for n in there.keys() | should.keys() if there.get(n) != should.get(n))
        yield f"resolvedDependencies ({some(odd)})"


def _at(content: Any, *keys: str) -> Any:
    found = content.get("predicate")
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _dependencies(content: Any) -> dict[str, Json]:
    listed = _at(content, "buildDefinition", "resolvedDependencies")
    return {str(d.get("name")): d for d in listed if isinstance(d, dict)} if isinstance(listed, list) else {}


def signatures(repo: Published, record: RepoRecord, found: Stated | None, key: PublicKey | None) -> Iterator[Finding]:
    """Yield by whom the files of a repo are signed for. Only a key that a person gives proves anything.

    With one, every file has to be signed, also those that the record leaves out: the record itself is not signed.
    """
    about = "signatures"
    own = _by_subject(found.statements if found else ())
    by_path = {
        path: own.get(Subject(path=path, sha256=entry.sha256), []) for path, entry in sorted(_entries(record).items())
    }
    signed = {path for path, ones in by_path.items() if any(s.envelope.signatures for s in ones)}
    if key is None:
        if not signed:
            yield left_open(about, "no file has a signed statement")
            return
        hints = sorted({hint for ones in by_path.values() for s in ones for hint, _ in s.envelope.signatures})
        detail = f"{len(signed)} of {len(by_path)} files have a signed statement, as they say by {some(hints)}"
        yield left_open(about, f"{detail}; give the publisher's public key with --key to check that")
        return
    good = {path for path, ones in by_path.items() if ones and all(key.verifies(s.envelope) for s in ones)}
    if bad := [path for path in by_path if path not in good] + beyond(repo, record):
        yield contradicted(about, f"not signed by the key that was given: {some(bad)}")
    if good:
        yield proven(about, f"{len(good)} of {len(by_path)} files have statements by that key, {key.key_id[:16]}")


def sources(record: RepoRecord, hub: Hub) -> tuple[dict[str, Release], list[Finding]]:
    """Return the releases that builds were made from, as far as they are there, by build key, and what that shows.

    Each is asked for once, however many builds it has, and no more than ``_SOURCES`` are.
    """
    releases: dict[str, Release] = {}
    findings: dict[Finding, None] = {}
    known: dict[SourceRef, tuple[Release | None, Finding]] = {}
    for build in (p.build for p in record.builds):
        if build.source not in known:
            if len(known) == _SOURCES:
                findings[left_open("source", f"only {_SOURCES} of those that the record names were asked for")] = None
                continue
            known[build.source] = _source(build.source, hub)
        release, finding = known[build.source]
        findings[finding] = None
        if release is None:
            continue
        releases[build.build_key] = release
        if not _is_base(build.base, release):
            findings[left_open("source", f"{release.label} leads to another base than it was merged into")] = None
    return releases, list(findings)


def _source(ref: SourceRef, hub: Hub) -> tuple[Release | None, Finding]:
    about = "source"
    if ref.commit is None:
        return None, left_open(about, f"{ref.repo_id} is a folder of whoever built it")
    try:
        release = hub.release(ref.repo_id, ref.commit)
    except NOT_SEEN as error:
        return None, left_open(about, f"{ref.label} cannot be seen any more: {error.message}")
    if release.content_digest != ref.content_digest:
        if release.base is not None:  # which is read as it is now
            return None, left_open(about, f"{ref.label} leads to a base that has other content by now")
        return None, contradicted(about, f"{ref.label} has other content than the record says")
    return release, proven(about, f"{ref.label} is there, with the same content")


def _is_base(claimed: SourceRef | None, release: Release) -> bool:
    base = release.base
    return (claimed and claimed.content_digest) == (base and base.content_digest)


def newer(record: RepoRecord, hub: Hub) -> Iterator[Finding]:
    """Yield whether the source has gone on since, and whether this phi-bot would build the same again."""
    named = sorted({p.build.source.repo_id for p in record.builds if p.build.source.commit})
    for repo_id in named[:_SOURCES]:
        builds = [p.build for p in record.builds if p.build.source.repo_id == repo_id]
        try:
            now = hub.release(repo_id)
        except NOT_SEEN:
            continue  # as the finding about the source says
        if old := sorted(b.variant.name for b in builds if b.source.content_digest != now.content_digest):
            yield note("newer", f"{repo_id} has other content now, at {(now.commit or '')[:12]}: {some(old)} are older")
    if odd := sorted(p.build.variant.name for p in record.builds if not _is_of_today(p.build)):
        yield note("newer", f"this phi-bot builds with another toolchain or recipe: {some(odd)}")


def _is_of_today(build: BuildRecord) -> bool:
    if build.variant.format not in all_formats():
        return False
    try:
        return recipes.key_of(build.source.content_digest, build.variant) == build.build_key
    except LookupError:  # a stranger's recipe may ask for what its format does not have
        return False
