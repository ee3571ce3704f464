"""Publish: proven artifacts onto the Hub, one commit a repo, with card and record."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from bot import cards, catalogue
from bot.cards import ChatFormat
from bot.errors import ConfigError, ConflictError, PhiBotError, VerifyError
from bot.formats import all_formats
from bot.hub.client import RECORD_FILE, Hub
from bot.plots import PICTURES, Plotter
from bot.progress import Display
from bot.records import (
    RECORD_VERSION,
    Artifact,
    Failure,
    ProvenBuild,
    Publication,
    Release,
    RepoRecord,
    Report,
    SourceRef,
    Variant,
)
from bot.steps.failures import failure
from bot.workspace import Workspace, read_record, read_release

_ROUNDS = 9  # each one that is lost was won by someone else, who has less left to do then


def publish(
    artifacts: Sequence[Artifact],
    *,
    namespace: str | None,
    private: bool,
    workspace: Workspace,
    hub: Hub,
    display: Display,
) -> Report:
    """Publish artifacts, each repo in one commit on top of the head that its record was read from.

    New repos are private where ``private`` says so, and where the release itself is not there for everybody.

    Pictures on the cards show what is known at this moment of the same release: these artifacts, and what the records
    of the repos of default variants in the namespace hold. Without them a card is whole all the same.

    What a repo holds already with the same build key is not sent again; if that is all, no commit is made. Where
    someone else publishes in the same repo at the same moment, what they did is read, and the rest added to it. A repo
    that refuses becomes a Failure for each of its artifacts, and the others go on.
    """
    if not namespace:
        raise ConfigError(
            "there is no namespace to publish in", hint="Give --namespace NAME, or set [publish] namespace."
        )
    publications: list[Publication] = []
    failures: list[Failure] = []
    shelf = _Shelf(hub=hub, artifacts=artifacts)
    plotter = Plotter(workspace=workspace, display=display)
    ordered = sorted(artifacts, key=lambda a: (_repo_id(namespace, a), a.build.variant.name))
    for repo_id, group in groupby(ordered, key=lambda a: _repo_id(namespace, a)):
        members = tuple(group)
        try:
            publications.append(_publish_repo(repo_id, members, private, hub, display, shelf, plotter))
        except PhiBotError as error:
            failures += [failure(a.build.source.label, a.build.variant.name, "publish", error) for a in members]
    return Report(publications=tuple(publications), failures=tuple(failures))


def _repo_id(namespace: str, artifact: Artifact) -> str:
    return _repo_of(namespace, artifact.build.source, artifact.build.variant)


def _repo_of(namespace: str, source: SourceRef, variant: Variant) -> str:
    model = source.repo_id.rsplit("/", 1)[-1]
    return f"{namespace}/{model}{all_formats()[variant.format].repo_suffix(variant)}"


@dataclass(kw_only=True)
class _Shelf:
    """What is known of a release beside one repo of it. Each repo is looked up once."""

    hub: Hub
    artifacts: Sequence[Artifact]
    _records: dict[str, tuple[ProvenBuild, ...]] = field(default_factory=dict, init=False)

    def beside(self, repo_id: str, own: Sequence[ProvenBuild], source: SourceRef) -> list[ProvenBuild]:
        """Return the proven builds of the same content that ``own``, what ``repo_id`` holds, lacks."""
        namespace = repo_id.split("/")[0]
        siblings = {_repo_of(namespace, source, v) for v in catalogue.select(["default"])} - {repo_id}
        known = [b for sibling in sorted(siblings) for b in self._published(sibling)]
        known += [
            ProvenBuild(build=a.build, evidence=a.evidence) for a in self.artifacts if a.evidence and a.evidence.passed
        ]
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


def _publish_repo(
    repo_id: str,
    artifacts: Sequence[Artifact],
    private: bool,
    hub: Hub,
    display: Display,
    shelf: _Shelf,
    plotter: Plotter,
) -> Publication:
    """Publish in one repo. Of several who do so at once one is first, and each of the others adds to what is there."""
    for _ in range(_ROUNDS):
        try:
            return _add(repo_id, artifacts, private, hub, display, shelf, plotter)
        except ConflictError:
            display.say(f"Someone else published in {repo_id} at the same moment: reading what is there now")
    return _add(repo_id, artifacts, private, hub, display, shelf, plotter)


def _add(
    repo_id: str,
    artifacts: Sequence[Artifact],
    private: bool,
    hub: Hub,
    display: Display,
    shelf: _Shelf,
    plotter: Plotter,
) -> Publication:
    """Add to one repo what is not in it, in one commit. Raises ConflictError when someone else was faster."""
    found = hub.record(repo_id)
    old, parent = found or (RepoRecord(version=RECORD_VERSION, builds=()), None)
    old_keys = {b.build.build_key for b in old.builds}
    new = [_proven(a) for a in artifacts if a.build.build_key not in old_keys]
    asked = {a.build.build_key for a in artifacts}
    if not new and parent is not None:
        display.say(f"{repo_id} holds all of it already: nothing left to do")
        builds = tuple(b for b in old.builds if b.build.build_key in asked)
        return Publication(repo_id=repo_id, commit=parent, url=hub.repo_url(repo_id), created=False, builds=builds)

    record = _merged(old, new)
    latest = artifacts[-1]
    release = _release(latest)
    pictures = plotter.draw(release, record.builds, shelf.beside(repo_id, record.builds, latest.build.source))
    card = cards.render_card(
        record=record,
        repo_id=repo_id,
        release=release,
        chat=_chat(latest),
        pictures=pictures.keys(),
        endpoint=hub.endpoint,
    )
    files: dict[str, Path | bytes] = {
        "README.md": card.encode(),
        **pictures,
        RECORD_FILE: (json.dumps(record.to_json(), indent=2, ensure_ascii=False) + "\n").encode(),
    }
    for artifact in artifacts:
        if artifact.build.build_key in old_keys:
            continue
        folder = Path(artifact.folder)
        files |= {p.name: p for p in sorted((folder / "notices").glob("*"))}
        for entry in artifact.build.files:
            files[_in_repo(artifact.build.path_in_repo, entry.path)] = folder / "files" / entry.path
    names = ", ".join(b.build.variant.name for b in new)
    with display.task(f"Publishing {names} in {repo_id}") as task:
        commit = hub.commit(
            repo_id,
            files=files,
            delete=[*_stale(old, record), *(p for p in PICTURES if p not in pictures)],
            parent=parent,
            message=f"Add {names} of {release.label}",
            private=private or release.gated or release.private,
            task=task,
        )
    done = tuple(b for b in record.builds if b.build.build_key in asked)
    return Publication(repo_id=repo_id, commit=commit, url=hub.repo_url(repo_id), created=True, builds=done)


def _proven(artifact: Artifact) -> ProvenBuild:
    evidence = artifact.evidence
    if evidence is None or not evidence.passed or evidence.build_key != artifact.build.build_key:
        raise VerifyError(
            f"{artifact.build.variant.name} has no evidence that it passed",
            hint=f"Run `phi-bot verify {artifact.folder}` first.",
        )
    return ProvenBuild(build=artifact.build, evidence=evidence)


def _merged(old: RepoRecord, new: Sequence[ProvenBuild]) -> RepoRecord:
    """Return the record with the new builds in place of those of the same variants, in the order of names."""
    builds = {b.build.variant.name: b for b in (*old.builds, *new)}
    return RepoRecord(version=RECORD_VERSION, builds=tuple(builds[n] for n in sorted(builds)))


def _stale(old: RepoRecord, record: RepoRecord) -> list[str]:
    """Return the files that only the old record knows: a rebuilt variant may have other ones."""
    return sorted(_paths(old) - _paths(record))


def _paths(record: RepoRecord) -> set[str]:
    return {_in_repo(b.build.path_in_repo, f.path) for b in record.builds for f in b.build.files}


def _in_repo(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def _release(artifact: Artifact) -> Release:
    return read_release(Path(artifact.folder))


def _chat(artifact: Artifact) -> ChatFormat | None:
    file = Path(artifact.folder) / "chat.json"
    return read_record(file, ChatFormat) if file.exists() else None
