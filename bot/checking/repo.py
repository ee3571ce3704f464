"""Checking a repo on the Hub: by its record and statements where it has them, and by the headers of its files."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bot.checking import own
from bot.checking.findings import NOT_SEEN, CheckReport, Finding, contradicted, left_open, proven, some, together
from bot.checking.likeness import compare
from bot.checking.original import Original, read_original
from bot.checking.own import Published
from bot.errors import DamagedWeightsError, RecordError, UnknownModelError
from bot.formats.inside import HeaderError, Inside, UnknownHeaderError, reader_of
from bot.formats.registry import all_formats
from bot.hub.client import Hub
from bot.hub.contents import HubFile
from bot.hub.origins import REPO, base_named
from bot.progress import Display
from bot.publishing.envelopes import PublicKey
from bot.records.artifacts import Json, RepoRecord, SourceFile
from bot.source.card import read_card
from bot.system import temporary

_LATER_PART = re.compile(r"-(?!00001)\d{5}(?=-of-\d{5}\.[a-z]+$)")  # of a model in parts, the first has the header
_BESIDE = re.compile(r"^mmproj[-_.]|(^|[-_.])imatrix\.[a-z]+$", re.IGNORECASE)  # projectors and matrices
_MOST, _MOST_BYTES = 40, 200_000_000  # files whose headers are read, and bytes of these all together


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
    yield from own.signatures(repo, record, stated, key)
    yield from findings
    yield from own.newer(record, repo.hub)


@dataclass(kw_only=True)
class _Headers:
    """What the headers of a repo's files say, by path, and what was found while they were read."""

    insides: dict[str, Inside] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


class _SpentError(Exception):
    """No more bytes of headers are read."""


@dataclass(kw_only=True)
class _Budget:
    """The bytes that may still be read, of all files together."""

    left: int = field(default_factory=lambda: _MOST_BYTES)

    def spend(self, count: int) -> None:
        """Take so many. Raises _SpentError where fewer are left."""
        if count > self.left:
            raise _SpentError
        self.left -= count


def _by_headers(repo: Published, record: RepoRecord | None) -> Iterator[Finding]:
    """Yield what the headers of files have in common with the model that they say, or are said, to be of."""
    read = _headers(repo)
    yield from read.findings
    card = _card(repo)
    base, commit, origin = _base(record, card, read.insides)
    if base is None:
        yield left_open("base model", origin)
        return
    try:
        original = read_original(repo.hub, base, commit)
    except NOT_SEEN as error:
        yield left_open("base model", f"{base} cannot be read: {error.message}")
        return
    yield proven("base model", f"{original.release.label}, {origin}")
    yield from _card_findings(card, original, base)
    yield from together({path: [*compare(inside, original)] for path, inside in read.insides.items()})


def _headers(repo: Published) -> _Headers:
    """Read the headers of a repo's files, as many as are read at all."""
    named = {path: name for path, file in sorted(repo.files.items()) if (name := _format_of(path))}
    skipped = {path: None for path in named if _is_beside(path, repo.files)}
    wanted = [path for path in named if path not in skipped]
    found, budget = _Headers(unread=wanted[_MOST:]), _Budget()
    for path in wanted[:_MOST]:
        try:
            found.insides[path] = _inside(repo, path, named[path], budget)
        except _SpentError:
            found.unread.append(path)
        except UnknownHeaderError as error:
            found.findings.append(left_open("header", f"{path}: {error}"))
        except (HeaderError, DamagedWeightsError) as error:
            found.findings.append(contradicted("header", f"{path}: {getattr(error, 'message', error)}"))
    if skipped:
        found.findings.append(left_open("header", f"by their names not models, and not read: {some(skipped)}"))
    if found.unread:
        bounds = f"{_MOST} files and {_MOST_BYTES // 1_000_000} MB"
        found.findings.append(left_open("header", f"not read, for no more than {bounds} are: {some(found.unread)}"))
    if not named:
        found.findings.append(left_open("header", "no file here has a header that is read without the whole of it"))
    return found


def _format_of(path: str) -> str | None:
    """Return the format whose reader takes a file, None where none does."""
    forms = all_formats().values()
    return next((f.name for f in forms if path.endswith(f.suffixes) and reader_of(f.name) is not None), None)


def _is_beside(path: str, files: Mapping[str, SourceFile]) -> bool:
    """Say whether a file is not a model of its own: a projector, a matrix, or a later part of one whose first is there.

    Its name alone says so, and whoever named it may lie: it is left open what is in it.
    """
    first = _LATER_PART.sub("-00001", path)
    return bool(_BESIDE.search(path.rpartition("/")[2])) or (first != path and first in files)


def _inside(repo: Published, path: str, format_name: str, budget: _Budget) -> Inside:
    reader = reader_of(format_name)
    assert reader is not None  # noqa: S101 - _format_of has found it
    place = HubFile(repo_id=repo.repo_id, commit=repo.commit, file=repo.files[path])

    def read(begin: int, end: int) -> bytes:
        budget.spend(end - begin)
        return repo.hub.read_part(place, begin, end)

    return reader.inside(read, place.file.size)


def _card(repo: Published) -> dict[str, Json]:
    """Return the metadata of a repo's card, {} where there is none that can be read."""
    if "README.md" not in repo.files:
        return {}
    with temporary.folder("check-") as folder:
        try:
            (folder / "README.md").write_bytes(repo.read("README.md"))
        except RecordError:
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
    if len(inner) == 1 and len(bases := inner.pop()) == 1 and REPO.fullmatch(bases[0]):
        return bases[0], None, "which its files name, as it is now"
    return None, None, "neither its record, its card nor its files name one model that it was made from"


def _card_findings(card: dict[str, Json], original: Original, base: str) -> Iterator[Finding]:
    """Yield what the card says of licence and base. ``base`` is how that was asked for: by its name before, perhaps."""
    wanted, said = original.release.card.get("license"), card.get("license")
    if isinstance(wanted, str) and isinstance(said, str):
        if said.lower() == wanted.lower():
            yield proven("licence", f"the card says {said}, as the original's does")
        else:
            yield contradicted("licence", f"the card says {said!a}, and the original's {wanted!a}")
    named = base_named(card)
    if named is not None and named.casefold() not in {base.casefold(), original.release.repo_id.casefold()}:
        yield contradicted("base model", f"the card names {named}")
