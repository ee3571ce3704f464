"""Changes: what a repo holds after the next commit in it: its record, its card with pictures, and the new files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Self

from bot import catalogue
from bot.catalogue.naming import Current, check_source, repo_of
from bot.context import Context
from bot.errors import PhiBotError, PromotionError
from bot.hub.client import RECORD_FILE, Hub
from bot.hub.contents import Content
from bot.pages import cards
from bot.pages.plots import PICTURES, Plotter
from bot.printable import json_text
from bot.publishing.publishable import Candidate
from bot.records.artifacts import RECORD_VERSION, ProvenBuild, Release, RepoRecord, SourceRef

EMPTY = RepoRecord(version=RECORD_VERSION, builds=())


@dataclass(frozen=True, kw_only=True)
class RepoUpdate:
    """One commit: what is put in and taken out, what the record says then, and names and build keys of what is new."""

    files: Mapping[str, Content] = field(repr=False)
    delete: tuple[str, ...]
    record: RepoRecord
    names: str
    new: frozenset[str]
    release: Release

    @property
    def has_older(self) -> bool:
        """Whether the record says of other builds too, which were there before."""
        return any(b.build.build_key not in self.new for b in self.record.builds)

    @property
    def message(self) -> str:
        """The message of the commit."""
        return f"Add {self.names} of {self.release.label}"


def path_in_repo(folder: str, path: str) -> str:
    """Return the path of an artifact's file in its repo."""
    return f"{folder}/{path}" if folder else path


@dataclass(kw_only=True)
class SiblingRepos:
    """The other repos of a release, beside one of them. Each repo is looked up once."""

    hub: Hub
    candidates: Sequence[Candidate]
    template: str
    _records: dict[str, tuple[ProvenBuild, ...]] = field(default_factory=dict, init=False)

    def beside(self, repo_id: str, own: Sequence[ProvenBuild], source: SourceRef) -> list[ProvenBuild]:
        """Return the proven builds of the same content that ``own``, what ``repo_id`` holds, lacks."""
        namespace = repo_id.split("/")[0]
        homes = {repo_of(namespace, source.repo_id, v, self.template) for v in catalogue.select(["default"])}
        known = [b for sibling in sorted(homes - {repo_id}) for b in self._published(sibling)]
        known += [c.proven for c in self.candidates]
        held = {b.build.build_key for b in own}
        same = (b for b in known if b.build.source.content_digest == source.content_digest)
        return list({b.build.build_key: b for b in same if b.build.build_key not in held}.values())

    def _published(self, repo_id: str) -> tuple[ProvenBuild, ...]:
        if repo_id not in self._records:
            self._records[repo_id] = ()
            with suppress(PhiBotError):  # not ours, or not readable: then a picture has fewer points
                found = self.hub.record(repo_id)
                self._records[repo_id] = found[0].builds if found else ()
        return self._records[repo_id]


def by_repo(
    candidates: Sequence[Candidate], namespace: str, template: str
) -> Iterator[tuple[str, tuple[Candidate, ...]]]:
    """Yield each repo that candidates belong in, with those of one source, in the order of their names.

    A repo that two sources would go into comes twice, that of the first candidate first: what that one puts there is
    found by the other.
    """
    order = {source: place for place, source in enumerate(dict.fromkeys(c.source for c in candidates))}

    def home(candidate: Candidate) -> tuple[str, int]:
        source = candidate.source
        return repo_of(namespace, source, candidate.proven.build.variant, template), order[source]

    for (repo_id, _), group in groupby(sorted(candidates, key=lambda c: (home(c), c.name)), key=home):
        yield repo_id, tuple(group)


@dataclass(frozen=True, kw_only=True)
class Composer:
    """Makes changes: what it takes beside the candidates of a repo."""

    endpoint: str
    current: Current
    shelf: SiblingRepos
    plotter: Plotter

    @classmethod
    def of(cls, candidates: Sequence[Candidate], context: Context) -> Self:
        """Return what composes the changes of all candidates of one publishing."""
        hub = context.hub
        return cls(
            endpoint=hub.endpoint,
            current=hub.current_id,
            shelf=SiblingRepos(hub=hub, candidates=candidates, template=context.config.publish.repo),
            plotter=Plotter(workspace=context.workspace, display=context.display),
        )

    def change(self, repo_id: str, candidates: Sequence[Candidate], old: RepoRecord) -> RepoUpdate | None:
        """Return what adds those of the candidates that a repo does not hold yet; None where it holds all of them.

        Raises OtherSourceError where the repo is another source's, or would be that of two, and PromotionError where
        one of the candidates has a file in the place of another build's.
        """
        old_keys = {b.build.build_key for b in old.builds}
        new = [c for c in candidates if c.build_key not in old_keys]
        if not new:
            return None
        record = _merged(old, [c.proven for c in new])
        for held in (old, record):
            check_source(repo_id, held, new[-1].proven.build.source, self.current)
        check_apart(record)
        latest = candidates[-1]
        beside = self.shelf.beside(repo_id, record.builds, latest.proven.build.source)
        pictures = self.plotter.draw(latest.release, record.builds, beside)
        files: dict[str, Content] = {}
        for candidate in new:
            files |= candidate.notices
            folder = candidate.proven.build.path_in_repo
            files |= {path_in_repo(folder, path): content for path, content in candidate.files.items()}
        # Ours come last: no file of an artifact takes the place of the card or the record.
        files |= pictures
        files[RECORD_FILE] = f"{json_text(record.to_json(), indent=2)}\n".encode()
        files["README.md"] = cards.render_card(
            record=record,
            repo_id=repo_id,
            release=latest.release,
            prompt=latest.prompt,
            pictures=pictures.keys(),
            endpoint=self.endpoint,
        ).encode()
        return RepoUpdate(
            files=files,
            delete=(*_stale(old, record), *(p for p in PICTURES if p not in pictures)),
            record=record,
            names=", ".join(c.name for c in new),
            new=frozenset(c.build_key for c in new),
            release=latest.release,
        )


def _merged(old: RepoRecord, new: Sequence[ProvenBuild]) -> RepoRecord:
    """Return the record with the new builds in place of those of the same variants, in the order of names."""
    builds = {b.build.variant.name: b for b in (*old.builds, *new)}
    return RepoRecord(version=RECORD_VERSION, builds=tuple(builds[n] for n in sorted(builds)))


def _stale(old: RepoRecord, record: RepoRecord) -> list[str]:
    """Return the files that only the old record knows: a rebuilt variant may have other ones."""
    return sorted(paths(old) - paths(record))


def check_apart(record: RepoRecord) -> None:
    """Raise PromotionError where two builds of a repo have a file in the same place: one would overwrite the other."""
    owners: dict[str, str] = {}
    for proven in record.builds:
        name = proven.build.variant.name
        for path in paths(replace(record, builds=(proven,))):
            if (owner := owners.setdefault(path, name)) != name:
                raise PromotionError(
                    f"{path} is a file of {owner} and of {name}", hint="Neither is published. Who built the newer one?"
                )


def paths(record: RepoRecord) -> set[str]:
    """Return where in its repo all files of the builds of a record lie."""
    return {path_in_repo(b.build.path_in_repo, f.path) for b in record.builds for f in b.build.files}
