"""Stage: proven artifacts into the staging repo, from which another machine, with another right, publishes them.

Whoever may write there can publish nothing: see bot/steps/promote.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bot.building.cleaning import mark_published
from bot.catalogue.naming import check_label, repo_of
from bot.context import Context
from bot.errors import ConflictError, PhiBotError, PromotionError, TokenError
from bot.hub.client import Hub
from bot.hub.contents import Content
from bot.hub.namespace import Namespace
from bot.printable import json_text
from bot.publishing.early_upload import Placed
from bot.publishing.publishable import PROMPT_FILE, Candidate, candidate_of
from bot.publishing.staging import (
    BUILD_FILE,
    EVIDENCE_FILE,
    FILES,
    MARKER,
    NOTICES,
    check_staging,
    folder_of,
    published_folders,
    staging_repo,
)
from bot.records.artifacts import (
    Artifact,
    BuildRecord,
    Failure,
    Record,
    Report,
    Staged,
)
from bot.records.failures import cut_short, failure
from bot.system import disk

_ROUNDS = 9
_CARD = b"""---
tags: [phi-bot]
---
Files that a phi-bot built and proved, on their way to the repos in which they are published. Nothing here is meant to
be downloaded: it is checked once more before it is published, and taken out of here afterwards.
"""


def stage(artifacts: Sequence[Artifact], context: Context) -> Report:
    """Put proven artifacts into the staging repo, in one commit that also removes those that are published by now.

    An artifact without evidence that it passed, of a folder of this machine, of a model that not everybody may read
    where the staging repo is public, or for a repo that is another source's, becomes a Failure. So does each of them
    where the repo refuses the commit. Raises ConfigError without a namespace, and CutShortError on Ctrl-C.
    """
    hub, repo_id = context.hub, staging_repo(context.config)
    failures: list[Failure] = []
    candidates: list[Candidate] = []
    namespace = hub.namespace(repo_id.partition("/")[0])
    privacy = _Privacy(hub=hub, repo_id=repo_id)
    for artifact in artifacts:
        try:
            check_target(artifact.build, namespace, context)
            candidates.append(_to_stage(artifact, repo_id, privacy))
        except PhiBotError as error:
            failures.append(failure(artifact.build.source.label, artifact.build.variant.name, "stage", error))
    if not candidates:
        return Report(failures=tuple(failures))
    try:
        with disk.disk_errors(f"staging in {repo_id}", Path(artifacts[0].folder)):
            commit = _put(repo_id, candidates, namespace, context)
    except PhiBotError as error:
        failures += [failure(c.release.label, c.name, "stage", error) for c in candidates]
        return Report(failures=tuple(failures))
    except KeyboardInterrupt as error:
        wanted = [(c.release.label, c.name) for c in candidates]
        raise cut_short(Report(failures=tuple(failures)), error, wanted, "stage") from error
    staged = tuple(
        Staged(repo_id=repo_id, commit=commit, folder=folder_of(c.proven.build), build=c.proven.build)
        for c in candidates
    )
    mark_published(artifacts, {s.build.build_key: repo_id for s in staged})
    return Report(staged=staged, failures=tuple(failures))


def staging_target(artifact: Artifact, *, context: Context) -> Placed:
    """Return where an artifact of this machine will be staged, as ``Ahead`` takes it."""
    repo_id = staging_repo(context.config)
    candidate = _to_stage(artifact, repo_id, _Privacy(hub=context.hub, repo_id=repo_id))
    folder = folder_of(candidate.proven.build)
    files = {f"{folder}/{FILES}/{f.path}": Path(artifact.folder) / "files" / f.path for f in artifact.build.files}
    return repo_id, True, files


@dataclass(frozen=True, kw_only=True)
class _Privacy:
    """True if a repo is private: asked for once, and not before somebody has to know."""

    hub: Hub
    repo_id: str

    @cached_property
    def is_private(self) -> bool:
        return self.hub.is_private(self.repo_id)


def _to_stage(artifact: Artifact, repo_id: str, privacy: _Privacy) -> Candidate:
    candidate = candidate_of(artifact)
    release = candidate.release
    if release.commit is None:
        raise PromotionError(
            f"{release.label} is a folder of this machine: who promotes could not see what was built from it",
            hint="Upload the model to the Hub, or publish from here (`phi-bot publish`).",
        )
    if (release.gated or release.private) and not privacy.is_private:
        raise TokenError(
            f"{repo_id} can be read by everybody, and {release.label} cannot",
            hint=f"Make {repo_id} private, or stage in another repo (publish.staging).",
        )
    return candidate


def _put(repo_id: str, candidates: Sequence[Candidate], namespace: Namespace, context: Context) -> str:
    for left in reversed(range(_ROUNDS)):
        try:
            return _add(repo_id, candidates, namespace, context)
        except ConflictError:
            if not left:
                raise
            context.display.say(f"Someone else staged in {repo_id} at the same moment: reading what is there now")
    raise AssertionError("the last round returns or raises")


def _add(repo_id: str, candidates: Sequence[Candidate], namespace: Namespace, context: Context) -> str:
    hub = context.hub
    head, there = hub.files(repo_id) or (None, {})
    check_staging(repo_id, there)
    files: dict[str, Content] = {"README.md": _CARD, MARKER: b'{"version": 1}\n'}
    for candidate in candidates:
        files |= {f"{folder_of(candidate.proven.build)}/{p}": c for p, c in _contents(candidate).items()}
    names = ", ".join(c.name for c in candidates)
    replaced = {folder_of(c.proven.build) for c in candidates} | published_folders(there, namespace)
    gone = [path for path in there if path not in files and path.partition("/")[0] in replaced]
    with context.display.task(f"Staging {names} in {repo_id}") as task:
        return hub.commit(
            repo_id,
            files=files,
            delete=gone,
            parent=head,
            message=f"Stage {names} of {candidates[0].release.label}",
            private=True,
            task=task,
        )


def _contents(candidate: Candidate) -> dict[str, Content]:
    proven = candidate.proven
    return {
        BUILD_FILE: _encoded(proven.build),
        EVIDENCE_FILE: _encoded(proven.evidence),
        PROMPT_FILE: _encoded(candidate.prompt),
        **{f"{FILES}/{path}": content for path, content in candidate.files.items()},
        **{f"{NOTICES}/{name}": content for name, content in candidate.notices.items()},
    }


def check_target(build: BuildRecord, namespace: Namespace, context: Context) -> None:
    """Raise OtherSourceError where the repo that a build would be published in is another source's."""
    config = context.config
    home = repo_of(config.namespace("there is none"), build.source.repo_id, build.variant, config.publish.repo)
    shelf = namespace.shelf(home)
    if shelf is not None and shelf.builds and build.build_key not in shelf.builds.values():
        check_label(home, [shelf.source], build.source.label, context.hub.current_id)


def _encoded(record: Record) -> bytes:
    return f"{json_text(record.to_json(), indent=2)}\n".encode()
