"""Promote: staged artifacts go into the repos that people download from. Runs no model code.

Claims of the staging machine are checked as far as this one can (see bot/publishing/checks.py). The files themselves
never pass through this machine; the Hub copies them, by the hashes that were compared.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from bot.context import Context
from bot.errors import PhiBotError, PromotionError, RecordError
from bot.hub.namespace import Namespace
from bot.publishing import checks, staging
from bot.publishing.due import NOTHING
from bot.publishing.publishable import PROMPT_FILE, Candidate
from bot.publishing.staging import folder_of, parsed, published_folders, staging_repo
from bot.records.artifacts import BuildRecord, Failure, Record, Report, SourceFile
from bot.records.evidence import Evidence
from bot.records.failures import cut_short, failure, merge_reports
from bot.source.prompt import Prompt
from bot.steps.publish import publish_candidates
from bot.steps.stage import check_target
from bot.steps.watch import is_watched, watched_finetunes

R = TypeVar("R", bound=Record)


def promote(models: Sequence[str], context: Context) -> Report:
    """Publish what is staged and not published yet, of the named models, or of those that the configuration watches.

    A model is REPO, as its main branch is now, or REPO@REVISION.

    Each repo takes one commit. An artifact that does not pass the checks becomes a Failure, and the others go on; it
    stays in the staging repo, for a person to look at. In a dry run all is checked, and nothing published. Raises
    ConfigError without a namespace, and ForeignRepoError for a staging repo that is none.
    """
    config, hub, display = context.config, context.hub, context.display
    repo_id = staging_repo(config)
    found = hub.files(repo_id)
    if found is None:
        display.say(f"There is no {repo_id}: nothing is staged")
        return Report()
    commit, there = found
    staging.check_staging(repo_id, there)
    namespace = hub.namespace(repo_id.partition("/")[0]) if staging.folders(there) else NOTHING
    reader = _Reader(
        repo_id=repo_id,
        commit=commit,
        context=context,
        models=tuple(models),
        namespace=namespace,
        releases=checks.Releases(hub=hub),
    )
    published = published_folders(there, namespace)
    candidates: list[Candidate] = []
    failures: list[Failure] = []
    for folder, files in sorted(staging.folders(there).items()):
        if folder in published:
            continue
        with display.task(f"Checking {folder}"):
            try:
                candidates.append(reader.candidate(folder, files))
            except PhiBotError as error:
                failures.append(reader.failure(folder, error))
    if config.run.dry_run:
        for candidate in candidates:
            display.say(f"A dry run: {candidate.name} of {candidate.release.label} passes, and is not published")
        return Report(failures=tuple(failures))
    refused = Report(failures=tuple(failures))
    try:
        report = publish_candidates(candidates, context)
    except KeyboardInterrupt as error:
        raise cut_short(refused, error, (), "publish") from error
    return merge_reports(refused, report)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads what is staged at one commit of the staging repo, and checks it."""

    repo_id: str
    commit: str
    context: Context
    models: tuple[str, ...]
    namespace: Namespace
    releases: checks.Releases
    builds: dict[str, BuildRecord] = field(default_factory=dict)

    def candidate(self, folder: str, files: Mapping[str, SourceFile]) -> Candidate:
        """Return an artifact as a candidate whose files are on the Hub. Raises PromotionError among others."""
        build = self.builds[folder] = self._read(BuildRecord, staging.BUILD_FILE, files)
        if folder != folder_of(build):
            raise PromotionError(f"{folder} of {self.repo_id} holds another build", hint="It is not published.")
        revision = self._wanted(build)
        checks.check_shape(build, now=dt.datetime.now(dt.UTC))
        checks.check_build(build)
        check_target(build, self.namespace, self.context)
        evidence = self._read(Evidence, staging.EVIDENCE_FILE, files)
        checks.check_size(build, evidence)
        release = self.releases.of(build, revision)
        proven = checks.check_evidence(build, evidence, release, self.context.config)
        return Candidate(
            proven=proven,
            release=release,
            prompt=checks.bounded(self._read(Prompt, PROMPT_FILE, files)),
            files=checks.check_files(
                build,
                staging.below(staging.FILES, files),
                repo_id=self.repo_id,
                commit=self.commit,
                hub=self.context.hub,
            ),
            notices=checks.check_notices(
                staging.below(staging.NOTICES, files),
                release,
                repo_id=self.repo_id,
                commit=self.commit,
                hub=self.context.hub,
            ),
        )

    def failure(self, folder: str, error: PhiBotError) -> Failure:
        """Return an error as a Failure of the build, as far as it is known."""
        build = self.builds.get(folder)
        label, name = (build.source.label, build.variant.name) if build else (self.repo_id, folder)
        return failure(label, name, "publish", error)

    def _wanted(self, build: BuildRecord) -> str | None:
        """Return the revision at which a model was asked for, None for its main branch.

        Refuses one that nobody asked for: whoever can stage must not choose what is published here.
        """
        source = build.source.repo_id
        named = {repo_id.casefold(): revision for repo_id, _, revision in (m.partition("@") for m in self.models)}
        if source.casefold() not in named if named else not self._is_watched(source):
            raise PromotionError(
                f"{source} is not a model that is {'named' if named else 'watched'} here",
                hint=f"`phi-bot promote {source}` publishes it, if it is meant to be.",
            )
        return named.get(source.casefold()) or None

    def _is_watched(self, source: str) -> bool:
        return is_watched(source, self.context.config) or source.casefold() in self._finetunes

    @cached_property
    def _finetunes(self) -> frozenset[str]:
        return watched_finetunes(self.context)

    def _read(self, kind: type[R], name: str, files: Mapping[str, SourceFile]) -> R:
        if name not in files:
            raise RecordError(f"{name} is missing in {self.repo_id}", hint="It is not published.")
        content = self.context.hub.read(self.repo_id, self.commit, files[name])
        return parsed(kind, content, where=f"{files[name].path} of {self.repo_id}")
