"""Publish: proven artifacts onto the Hub, one commit a repo, with card and record."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot.building.cleaning import mark_published
from bot.catalogue.naming import TEMPLATE, check_source, repo_of
from bot.context import Context
from bot.errors import ConflictError, PhiBotError
from bot.hub.client import Hub
from bot.pages.plots import PICTURES
from bot.publishing.compose import EMPTY, Composer, RepoUpdate, by_repo, path_in_repo
from bot.publishing.early_upload import Placed
from bot.publishing.envelopes import Signer, signer_of
from bot.publishing.publishable import Candidate, candidate_of
from bot.publishing.statements import STATEMENTS_FILE, statements_file
from bot.records.artifacts import Artifact, Failure, Publication, RepoRecord, Report
from bot.records.failures import cut_short, failure, merge_reports
from bot.system import disk

_ROUNDS = 9  # each one that is lost was won by someone else, who has less left to do then


def publish(
    artifacts: Sequence[Artifact],
    context: Context,
) -> Report:
    """Publish artifacts of this machine as ``publish_candidates`` does; one without evidence that it passed fails."""
    candidates: list[Candidate] = []
    failures: list[Failure] = []
    for artifact in artifacts:
        build = artifact.build
        try:
            candidates.append(candidate_of(artifact))
        except PhiBotError as error:
            failures.append(failure(build.source.label, build.variant.name, "publish", error))
    refused = Report(failures=tuple(failures))
    try:
        report = publish_candidates(candidates, context)
    except KeyboardInterrupt as error:
        raise cut_short(refused, error, (), "publish") from error
    repos = {b.build.build_key: published.repo_id for published in report.publications for b in published.builds}
    mark_published(artifacts, repos)
    return merge_reports(refused, report)


def publish_target(artifact: Artifact, *, namespace: str, private: bool, template: str = TEMPLATE) -> Placed:
    """Return where an artifact of this machine will be published, as ``Ahead`` takes it."""
    candidate = candidate_of(artifact)
    build, release = candidate.proven.build, candidate.release
    repo_id = repo_of(namespace, candidate.source, build.variant, template)
    files = {path_in_repo(build.path_in_repo, f.path): Path(artifact.folder) / "files" / f.path for f in build.files}
    return repo_id, private or release.gated or release.private, files


@dataclass(frozen=True, kw_only=True)
class Owners:
    """Says whose repos are, as ``Ahead`` takes it. The record of each is read once."""

    hub: Hub
    _records: dict[str, RepoRecord] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, repo_id: str, artifact: Artifact) -> None:
        """Raise OtherSourceError where a repo holds what was made from another source than an artifact."""
        if repo_id not in self._records:
            self._records[repo_id] = (self.hub.record(repo_id) or (EMPTY, None))[0]
        check_source(repo_id, self._records[repo_id], artifact.build.source, self.hub.current_id)


def publish_candidates(candidates: Sequence[Candidate], context: Context) -> Report:
    """Publish candidates, each repo in one commit on top of the head that its record was read from.

    Repos are named by ``publish.repo``. One whose record names another source is left as it is, and each candidate for
    it becomes a Failure. New repos are private where ``publish.private`` says so, and where the release itself is not
    there for everybody.

    What each new file was made from is stated beside the record, and signed where a key is configured.

    Pictures on the cards show what is known at this moment of the same release: these candidates, and what the records
    of the repos of default variants in the namespace hold. Without them a card is whole all the same.

    A build that the repo holds already, with the same build key, is not sent again; if that is all, no commit is made.
    Where someone else publishes in the same repo at the same moment, their commit is read, and the rest added to it. A
    repo that refuses becomes a Failure for each of its candidates, and the others go on. Raises ConfigError without a
    namespace, or for something that is not a key to sign with, and CutShortError on Ctrl-C.
    """
    namespace = context.config.namespace("there is no namespace to publish in")
    signer = signer_of(context.config.publish.sign.key, os.environ)
    publications: list[Publication] = []
    failures: list[Failure] = []
    composer = Composer.of(candidates, context)
    for repo_id, members in by_repo(candidates, namespace, context.config.publish.repo):
        try:
            with disk.disk_errors(f"publishing in {repo_id}", context.workspace.root):
                publications.append(_put(repo_id, members, composer, signer, context))
        except PhiBotError as error:
            failures += [failure(c.release.label, c.name, "publish", error) for c in members]
        except KeyboardInterrupt as error:
            done = Report(publications=tuple(publications), failures=tuple(failures))
            raise cut_short(done, error, [(c.release.label, c.name) for c in candidates], "publish") from error
    return Report(publications=tuple(publications), failures=tuple(failures))


def _put(
    repo_id: str, candidates: Sequence[Candidate], composer: Composer, signer: Signer | None, context: Context
) -> Publication:
    """Publish in one repo. If several do so at once, one is first, and each of the others adds to it."""
    for _ in range(_ROUNDS):
        try:
            return _add(repo_id, candidates, composer, signer, context)
        except ConflictError:
            context.display.say(f"Someone else published in {repo_id} at the same moment: reading what is there now")
    return _add(repo_id, candidates, composer, signer, context)


def _add(
    repo_id: str, candidates: Sequence[Candidate], composer: Composer, signer: Signer | None, context: Context
) -> Publication:
    """Add to one repo what is not in it, in one commit. Raises ConflictError when someone else was faster."""
    hub, display = context.hub, context.display
    old, parent = hub.record(repo_id) or (EMPTY, None)
    change = composer.change(repo_id, candidates, old)
    pictures: tuple[str, ...] = ()
    if change is None and parent is not None:
        display.say(f"{repo_id} holds all of it already: nothing left to do")
        commit, record = parent, old
    elif change is not None:
        hidden = context.config.publish.private or change.release.gated or change.release.private
        pictures = tuple(name for name in PICTURES if name in change.files and not hidden)
        with display.task(f"Publishing {change.names} in {repo_id}") as task:
            commit = hub.commit(
                repo_id,
                files={**change.files, STATEMENTS_FILE: _statements(repo_id, change, candidates, signer, hub)},
                delete=change.delete,
                parent=parent,
                message=change.message,
                private=hidden,
                task=task,
            )
        record = change.record
    else:
        raise AssertionError("a repo that is not there holds nothing, and there is something to add")
    asked = {c.build_key for c in candidates}
    builds = tuple(b for b in record.builds if b.build.build_key in asked)
    return Publication(
        repo_id=repo_id,
        commit=commit,
        url=hub.repo_url(repo_id),
        created=change is not None,
        builds=builds,
        pictures=pictures,
    )


def _statements(
    repo_id: str, change: RepoUpdate, candidates: Sequence[Candidate], signer: Signer | None, hub: Hub
) -> bytes:
    """Return the file of statements of a repo after a change, with those of its new files."""
    new = [(c.proven, c.release) for c in candidates if c.build_key in change.new]
    kept = hub.read_files(repo_id, (STATEMENTS_FILE,)) if change.has_older else None
    return statements_file(change.record, new, kept[0].get(STATEMENTS_FILE, b"") if kept else b"", signer)
