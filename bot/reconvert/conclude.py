"""Conclude: merge or close the pull requests on the Hub of one on GitHub that was merged or closed.

A merge is a publication, so it is checked like a promotion: by the recipes that are merged by now. Where those give
another build key than the proposed files carry, the proposal is closed, and the next run of the bot builds them again.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bot import catalogue
from bot.catalogue.naming import check_source, repo_of
from bot.config import Config
from bot.context import Context
from bot.errors import PhiBotError, PromotionError, RecordError
from bot.github import Pull
from bot.hub.client import RECORD_FILE, Hub
from bot.hub.errors import is_outage
from bot.hub.proposals import HubPull
from bot.pages.plots import PICTURES
from bot.publishing import checks, staging
from bot.publishing.compose import EMPTY, check_apart, paths
from bot.reconvert.propose import prefix_of, title_of
from bot.records.artifacts import Failure, ProvenBuild, Publication, RepoRecord, Report, SourceFile
from bot.records.failures import cut_short, failure
from bot.source import NOTICES
from bot.source.strict import parse_object

_OURS = frozenset({"README.md", RECORD_FILE, *PICTURES, *NOTICES})


def conclude(pull: Pull, name: str, models: Sequence[str], context: Context) -> Report:
    """Merge what was proposed for a pull request that was merged, and close what was for one that was not.

    ``name`` is OWNER/REPO#N, ``models`` are those that it was proposed for. Where a pull request on the Hub was made
    from another commit than the one that was merged, or does not pass the checks, it is closed, with the reason, and
    is a Failure. One that the Hub could not merge for a reason of its own is a Failure and stays open, for the next
    time; the others go on. Raises ConfigError without a namespace, and CutShortError on Ctrl-C.
    """
    config, hub, display = context.config, context.hub, context.display
    namespace = config.namespace("there is no namespace to conclude in")
    publications: list[Publication] = []
    failures: list[Failure] = []
    releases = checks.Releases(hub=hub)
    try:
        for repo_id in _repos(namespace, models, config.publish.repo):
            try:
                proposals = [p for p in hub.proposals(repo_id) if p.title.startswith(prefix_of(name))]
            except PhiBotError as error:
                failures.append(failure(name, repo_id, "publish", error))
                continue
            for proposal in proposals:
                try:
                    publications += _conclude(repo_id, proposal, pull, name, releases, context)
                except PhiBotError as error:
                    failures.append(failure(name, f"{repo_id} #{proposal.number}", "publish", error))
                    if not pull.merged:
                        continue
                    if is_outage(error):
                        display.say(f"#{proposal.number} of {repo_id} stays open, to be merged the next time")
                    else:
                        _close(repo_id, proposal, error, context)
    except KeyboardInterrupt as error:
        done = Report(publications=tuple(publications), failures=tuple(failures))
        raise cut_short(done, error, (), "publish") from error
    return Report(publications=tuple(publications), failures=tuple(failures))


def _conclude(
    repo_id: str, proposal: HubPull, pull: Pull, name: str, releases: checks.Releases, context: Context
) -> list[Publication]:
    """Merge or close one pull request on the Hub; return what that published."""
    hub, display = context.hub, context.display
    if not pull.merged:
        hub.close(repo_id, proposal.number, f"{name} was closed.")
        display.say(f"Closed #{proposal.number} of {repo_id}: {name} was closed")
        return []
    merged = _merge(repo_id, proposal, pull, name, context.config, releases)
    display.say(f"Merged #{proposal.number} of {repo_id}")
    return [merged]


def _close(repo_id: str, proposal: HubPull, why: PhiBotError, context: Context) -> None:
    """Close what is not merged. Where the Hub does not take that either, it is said, and a person can."""
    try:
        context.hub.close(repo_id, proposal.number, f"Not merged: {why.message}")
    except PhiBotError as error:
        context.display.say(f"#{proposal.number} of {repo_id} was not closed: {error.message}")


def _repos(namespace: str, models: Sequence[str], template: str) -> list[str]:
    """Return the repos that anything made from models may be in."""
    rows = catalogue.all_variants().values()
    return sorted({repo_of(namespace, model, row, template) for model in models for row in rows})


def _merge(
    repo_id: str, proposal: HubPull, pull: Pull, name: str, config: Config, releases: checks.Releases
) -> Publication:
    hub = releases.hub
    names = proposal.title.partition(": ")[2]
    if proposal.title != title_of(name, pull.head_sha, names):
        raise PromotionError(f"it was built from another commit than {pull.head_sha[:12]}", hint="It is built anew.")
    found, main = hub.files(repo_id, proposal.revision), hub.files(repo_id)
    if found is None or main is None:
        raise PromotionError(f"{repo_id} does not exist any more", hint="It is built anew.")
    commit, files = found
    record = _record(repo_id, commit, files, hub)
    old = (hub.record(repo_id) or (EMPTY, None))[0]
    known = {b.build.build_key for b in old.builds}
    new = tuple(b for b in record.builds if b.build.build_key not in known)
    if not new or any(b not in old.builds for b in record.builds if b not in new):
        raise PromotionError("its record is not the published one with something new", hint="It is built anew.")
    check_apart(record)
    for proven in new:
        check_source(repo_id, record, proven.build.source, hub.current_id)
        _check(repo_id, commit, files, proven, config, releases)
    _check_rest(files, main[1], replace(record, builds=new), old)
    merged = hub.merge(repo_id, proposal.number, f"{name} was merged.", commit=commit)
    return Publication(repo_id=repo_id, commit=merged, url=hub.repo_url(repo_id), created=True, builds=new)


def _record(repo_id: str, commit: str, files: Mapping[str, SourceFile], hub: Hub) -> RepoRecord:
    if RECORD_FILE not in files:
        raise RecordError(f"{RECORD_FILE} is missing in {repo_id}", hint="It is built anew.")
    try:
        return RepoRecord.from_json(parse_object(hub.read(repo_id, commit, files[RECORD_FILE])))
    except ValueError as error:
        raise RecordError(f"{RECORD_FILE} of {repo_id}: {error}", hint="It is built anew.") from error


def _check(
    repo_id: str,
    commit: str,
    files: Mapping[str, SourceFile],
    proven: ProvenBuild,
    config: Config,
    releases: checks.Releases,
) -> None:
    build = proven.build
    home = repo_of(repo_id.partition("/")[0], build.source.repo_id, build.variant, config.publish.repo)
    if home.casefold() != repo_id.casefold():
        raise PromotionError(f"{build.variant.name} of {build.source.label} goes into {home}", hint="It is built anew.")
    checks.check_shape(build, now=dt.datetime.now(dt.UTC))
    checks.check_build(build)
    hub, release = releases.hub, releases.of(build)
    checks.check_size(build, proven.evidence)
    checks.check_evidence(build, proven.evidence, release, config)
    own = {f.path for f in build.files}
    there = staging.below(build.path_in_repo, files) if build.path_in_repo else dict(files)
    checks.check_files(build, {p: f for p, f in there.items() if p in own}, repo_id=repo_id, commit=commit, hub=hub)
    notices = {p: f for p, f in files.items() if p in NOTICES}
    checks.check_notices(notices, release, repo_id=repo_id, commit=commit, hub=hub)


def _check_rest(
    files: Mapping[str, SourceFile], main: Mapping[str, SourceFile], new: RepoRecord, old: RepoRecord
) -> None:
    """Refuse what a pull request on the Hub changes beside the files of its new builds, its card and its record."""
    put = {p for p, file in files.items() if main.get(p) != file} - paths(new) - _OURS
    gone = main.keys() - files.keys() - paths(old) - set(PICTURES)
    if odd := sorted(put | gone):
        raise PromotionError(f"it changes {odd[0]!a}, which is not a file that was built", hint="It is built anew.")
