"""Checking a repo on the Hub: by its record and statements where it has them, and by the headers of its files."""

import re
from collections.abc import Iterator, Mapping

from bot.checking import own
from bot.checking.findings import NOT_SEEN, CheckReport, Finding, contradicted, left_open, proven, some, together
from bot.checking.likeness import compare
from bot.checking.original import Original, read_original
from bot.checking.own import Published
from bot.errors import DamagedWeightsError, PhiBotError, UnknownModelError
from bot.formats.inside import HeaderError, Inside, reader_of
from bot.formats.registry import all_formats
from bot.hub.client import Hub
from bot.hub.contents import HubFile
from bot.hub.origins import base_named
from bot.progress import Display
from bot.publishing.envelopes import PublicKey
from bot.records.artifacts import Json, RepoRecord, SourceFile
from bot.source.card import read_card
from bot.system import temporary

_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.[a-z]+$")  # of a model in parts, the first has the header
_BESIDE = re.compile(r"(^|[-_.])(mmproj|imatrix)([-_.]|$)", re.IGNORECASE)
_MOST = 40  # files whose headers are read


def check(repo_id: str, revision: str | None, hub: Hub, key: PublicKey | None, display: Display) -> CheckReport:
    """Look at a repo at a revision (None: its main branch), and say what is proven, contradicted and left open.

    Downloads no weights. Raises UnknownModelError and UnknownRevisionError for what is not there.
    """
    with display.task(f"Looking at {repo_id}"):
        found = hub.files(repo_id, revision)
        if found is None:
            raise UnknownModelError(
                f"{hub.endpoint} shows no repo {repo_id}", hint="Check the name. If it is private, give a token."
            )
        repo = Published(hub=hub, repo_id=repo_id, commit=found[0], files=found[1])
        record, said = own.record_of(repo)
    findings = [said]
    if record is not None and record.builds:
        with display.task("Holding its record against the Hub and the source"):
            findings += _by_record(repo, record, key)
    elif key is not None:
        findings.append(contradicted("signatures", "nothing here is signed by the key that was given"))
    with display.task("Reading the headers of its files"):
        findings += _by_headers(repo, record)
    return CheckReport(repo_id=repo_id, commit=repo.commit, findings=tuple(findings))


def _by_record(repo: Published, record: RepoRecord, key: PublicKey | None) -> Iterator[Finding]:
    yield from own.files(repo, record)
    releases, findings = own.sources(record, repo.hub)
    stated = own.stated(repo, releases)
    yield from own.statements(record, stated)
    yield from own.signatures(record, stated, key)
    yield from findings
    yield from own.newer(record, repo.hub)


def _by_headers(repo: Published, record: RepoRecord | None) -> Iterator[Finding]:
    """Yield what the headers of files have in common with the model that they say, or are said, to be of."""
    wanted = {path: name for path, file in sorted(repo.files.items()) if (name := _format_of(path, file))}
    read, unread = list(wanted)[:_MOST], list(wanted)[_MOST:]
    card = _card(repo)
    insides: dict[str, Inside] = {}
    for path in read:
        try:
            insides[path] = _inside(repo, path, wanted[path])
        except (HeaderError, DamagedWeightsError) as error:
            yield contradicted("header", f"{path}: {getattr(error, 'message', error)}")
    if unread:
        yield left_open("header", f"only {_MOST} files were read, not {some(unread)}")
    if not insides:
        if not wanted:
            yield left_open("header", "no file here has a header that is read without the whole of it")
        return
    base, commit, origin = _base(record, card, insides)
    if base is None:
        yield left_open("base model", origin)
        return
    try:
        original = read_original(repo.hub, base, commit)
    except NOT_SEEN as error:
        yield left_open("base model", f"{base} cannot be read: {error.message}")
        return
    yield proven("base model", f"{original.release.label}, {origin}")
    yield from _card_findings(card, original)
    yield from together({path: [*compare(inside, original)] for path, inside in insides.items()})


def _format_of(path: str, file: SourceFile) -> str | None:
    """Return the format whose reader takes a file, None where none does."""
    name = path.rsplit("/", 1)[-1]
    if not file.size or _LATER_PART.search(name) or _BESIDE.search(name):
        return None
    forms = all_formats().values()
    return next((f.name for f in forms if name.endswith(f.suffixes) and reader_of(f.name) is not None), None)


def _inside(repo: Published, path: str, format_name: str) -> Inside:
    reader = reader_of(format_name)
    assert reader is not None  # noqa: S101 - _format_of has found it
    place = HubFile(repo_id=repo.repo_id, commit=repo.commit, file=repo.files[path])
    return reader.inside(lambda begin, end: repo.hub.read_part(place, begin, end), place.file.size)


def _card(repo: Published) -> dict[str, Json]:
    """Return the metadata of a repo's card, {} where there is none that can be read."""
    if "README.md" not in repo.files:
        return {}
    with temporary.folder("check-") as folder:
        try:
            (folder / "README.md").write_bytes(repo.read("README.md"))
        except PhiBotError:
            return {}
        return read_card(folder)


def _base(
    record: RepoRecord | None, card: dict[str, Json], insides: Mapping[str, Inside]
) -> tuple[str | None, str | None, str]:
    """Return repo and commit of what files were made from, and who says so; without one, why there is none."""
    sources = {(p.build.source.repo_id, p.build.source.commit) for p in record.builds} if record else set()
    if len(sources) == 1:
        ((repo_id, commit),) = sources
        if commit is not None:
            return repo_id, commit, "which its record names"
    named = base_named(card)
    if named is not None:
        return named, None, "which its card names, as it is now"
    inner = {i.bases for i in insides.values()}
    if len(inner) == 1 and len(bases := inner.pop()) == 1:
        return bases[0], None, "which its files name, as it is now"
    return None, None, "neither its record, its card nor its files name one model that it was made from"


def _card_findings(card: dict[str, Json], original: Original) -> Iterator[Finding]:
    wanted, said = original.release.card.get("license"), card.get("license")
    if isinstance(wanted, str) and isinstance(said, str) and said.lower() != wanted.lower():
        yield contradicted("licence", f"the card says {said!a}, and the original's {wanted!a}")
    named = base_named(card)
    if named is not None and named.casefold() != original.release.repo_id.casefold():
        yield contradicted("base model", f"the card names {named}")
