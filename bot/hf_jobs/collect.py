"""Collect: what jobs on other machines left on the Hub, and why the rest of it is not there."""

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from bot.context import Context
from bot.errors import PhiBotError, RemoteJobError
from bot.hub.client import Hub
from bot.hub.jobs import RemoteJob
from bot.printable import printable
from bot.publishing.staging import BUILD_FILE, folder_name, folders, parsed, staging_repo
from bot.records.artifacts import BuildRecord, Failure, Publication, Release, RepoRecord, Report, SourceFile, Staged
from bot.records.failures import failure
from bot.records.plans import Job, PlannedVariant
from bot.state.attempts import Attempted
from bot.state.store import Store

_CLOCKS_DIFFER = dt.timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """The task of one Hugging Face job: variants of one release, which it downloads once."""

    release: Release
    jobs: tuple[Job, ...]
    flavor: str

    @property
    def planned(self) -> tuple[PlannedVariant, ...]:
        """The variants of all formats."""
        return tuple(v for job in self.jobs for v in job.variants)

    @property
    def name(self) -> str:
        """The prefix of its log lines: the model, the formats and the flavor."""
        formats = "+".join(dict.fromkeys(job.format for job in self.jobs))
        return printable(f"{self.release.name} {formats} {self.flavor}")

    @property
    def seconds(self) -> float:
        """The time that it is expected to take."""
        return sum(job.placement.seconds for job in self.jobs if job.placement is not None)


Ended = tuple[JobRequest, RemoteJob | PhiBotError]


def collect(ended: Sequence[Ended], failures: Sequence[Failure], context: Context, *, staged: bool) -> Report:
    """Return what jobs that have ended published, or staged, as the Hub has it, and why they did not do the rest."""
    config, hub = context.config, context.hub
    namespace = config.namespace("jobs that run elsewhere need a namespace to publish in")
    # Only those that publish write down what failed: who may stage may write nowhere else.
    attempts = {} if staged else _attempts(hub, f"{namespace}/{config.publish.state}")
    if staged:
        waiting = _Staging(hub=hub, repo_id=staging_repo(config))
        failed = [*failures, *_missing(ended, attempts, waiting.has, "stage")]
        return Report(staged=tuple(waiting.found), failures=tuple(failed))
    shelf = _Records(hub=hub)
    failed = [*failures, *_missing(ended, attempts, shelf.has, "publish")]
    return Report(publications=shelf.publications(), failures=tuple(failed))


def _missing(
    ended: Sequence[Ended],
    attempts: dict[str, Attempted],
    has: Callable[[JobRequest, PlannedVariant], bool],
    step: Literal["stage", "publish"],
) -> list[Failure]:
    missing: list[Failure] = []
    for errand, job in ended:
        for planned in errand.planned:
            try:
                if not has(errand, planned):
                    missing.append(_why(errand, planned, job, attempts.get(planned.build_key)))
            except PhiBotError as error:
                missing.append(failure(errand.release.label, planned.variant.name, step, error))
    return missing


@dataclass(frozen=True, kw_only=True)
class _Records:
    """The records of repos, each read once, and what of them was asked for."""

    hub: Hub
    known: dict[str, tuple[RepoRecord, str] | None] = field(default_factory=dict)
    asked: dict[str, list[str]] = field(default_factory=dict)

    def has(self, _: JobRequest, planned: PlannedVariant) -> bool:
        """Say whether a build is published. Raises what ``hub.record`` raises."""
        if planned.repo_id not in self.known:
            self.known[planned.repo_id] = self.hub.record(planned.repo_id)
        found = self.known[planned.repo_id]
        if found is None or all(b.build.build_key != planned.build_key for b in found[0].builds):
            return False
        self.asked.setdefault(planned.repo_id, []).append(planned.build_key)
        return True

    def publications(self) -> tuple[Publication, ...]:
        """Return what was asked for and is there."""
        return tuple(self._publication(repo_id, keys) for repo_id, keys in sorted(self.asked.items()))

    def _publication(self, repo_id: str, keys: Sequence[str]) -> Publication:
        found = self.known[repo_id]
        assert found is not None  # noqa: S101 - its keys were read from it
        record, head = found
        builds = tuple(b for b in record.builds if b.build.build_key in keys)
        url = self.hub.repo_url(repo_id)
        return Publication(repo_id=repo_id, commit=head, url=url, created=True, builds=builds)


@dataclass(kw_only=True)
class _Staging:
    """The staging repo, listed once, and what of it was asked for."""

    hub: Hub
    repo_id: str
    found: list[Staged] = field(default_factory=list)
    _listed: tuple[str, dict[str, dict[str, SourceFile]]] | None = None

    def has(self, errand: JobRequest, planned: PlannedVariant) -> bool:
        """Say whether a build is staged. Raises what ``hub.files`` and ``hub.read`` raise, and RecordError."""
        if self._listed is None:
            commit, files = self.hub.files(self.repo_id) or ("", {})
            self._listed = commit, folders(files)
        commit, there = self._listed
        folder = folder_name(planned.build_key, errand.release.repo_id, errand.release.commit)
        if BUILD_FILE not in there.get(folder, {}):
            return False
        content = self.hub.read(self.repo_id, commit, there[folder][BUILD_FILE])
        build = parsed(BuildRecord, content, where=f"{folder}/{BUILD_FILE} of {self.repo_id}")
        self.found.append(Staged(repo_id=self.repo_id, commit=commit, folder=folder, build=build))
        return True


def _why(errand: JobRequest, planned: PlannedVariant, job: RemoteJob | PhiBotError, noted: Attempted | None) -> Failure:
    """Return why a variant is not published: what the bot on that machine noted of it, or else how its job ended."""
    label, name = errand.release.label, planned.variant.name
    if noted is not None and noted.step in ("plan", "build", "verify", "publish") and _is_of(noted, job):
        return Failure.from_json(
            {
                "release": label,
                "variant": name,
                "step": noted.step,
                "message": noted.message,
                "hint": noted.hint,
                "exit_code": noted.exit_code,
            }
        )
    if isinstance(job, PhiBotError):
        return failure(label, name, "build", job)
    words = f"its job ended as {job.stage}{f': {job.message}' if job.message else ''}"
    return failure(label, name, "build", RemoteJobError(words, hint=f"What it printed is at {job.url}."))


def _is_of(noted: Attempted, job: RemoteJob | PhiBotError) -> bool:
    """Say whether a note is of this attempt: the bot before may have failed at the same, and this one not begun."""
    return isinstance(job, PhiBotError) or dt.datetime.fromisoformat(noted.last) > job.created - _CLOCKS_DIFFER


def _attempts(hub: Hub, state: str) -> dict[str, Attempted]:
    store = Store(hub=hub, repo_id=state)
    with suppress(PhiBotError):  # without it, the jobs' own ends are told
        store.read()
    return store.memory.attempts
