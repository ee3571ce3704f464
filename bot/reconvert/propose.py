"""Propose: artifacts built by a pull request's own code, as pull requests on the Hub, where people can try them.

The recipes are the pull request's, so they cannot be compared with those here, and nothing is published. All that is
independent of the recipe is checked: the places and names of files, their hashes, the release, the licence.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from bot.context import Context
from bot.errors import PhiBotError, PromotionError, UnknownModelError
from bot.progress import Task
from bot.publishing import checks
from bot.publishing.compose import Composer, by_repo
from bot.publishing.publishable import Candidate, candidate_of
from bot.reconvert.approval import Approval
from bot.records.artifacts import Artifact, Failure, Proposal, Report
from bot.records.failures import cut_short, failure
from bot.source import bytes_digest, notices_of, sizes
from bot.system import disk
from bot.workspace import hash_files


def title_of(pull: str, head: str, names: str) -> str:
    """Return the title of a pull request on the Hub. ``pull`` is OWNER/REPO#N on GitHub, ``head`` its commit."""
    return f"{prefix_of(pull)}{head[:12]}: {names}"


def prefix_of(pull: str) -> str:
    """Return how the titles of all pull requests on the Hub begin that belong to one on GitHub."""
    return f"{pull}@"


def propose(artifacts: Sequence[Artifact], context: Context, *, pull: str, approval: Approval) -> Report:
    """Open a pull request on the Hub for each repo in which artifacts of this machine differ from what is published.

    ``approval`` says from which commit, and which models. Those of an older commit are closed. An artifact that does
    not pass the checks becomes a Failure; so does each of a repo that is not there yet, or refuses. Raises ConfigError
    without a namespace, and CutShortError on Ctrl-C.
    """
    config, hub, display = context.config, context.hub, context.display
    namespace = config.namespace("there is no namespace to propose in")
    candidates: list[Candidate] = []
    failures: list[Failure] = []
    releases = checks.Releases(hub=hub)
    for artifact in artifacts:
        build = artifact.build
        try:
            with display.task(f"Checking {build.variant.name} of {build.source.label}") as task:
                candidates.append(_checked(artifact, approval, releases, task))
        except PhiBotError as error:
            failures.append(failure(build.source.label, build.variant.name, "publish", error))
    composer = Composer.of(candidates, context)
    proposals: list[Proposal] = []
    for repo_id, members in by_repo(candidates, namespace, config.publish.repo):
        try:
            with disk.disk_errors(f"proposing in {repo_id}", context.workspace.root):
                made = _propose(repo_id, members, pull, approval.head, composer, context)
            proposals += [made] if made is not None else []
        except PhiBotError as error:
            failures += [failure(c.release.label, c.name, "publish", error) for c in members]
        except KeyboardInterrupt as error:
            done = Report(proposals=tuple(proposals), failures=tuple(failures))
            raise cut_short(done, error, [(c.release.label, c.name) for c in candidates], "publish") from error
    return Report(proposals=tuple(proposals), failures=tuple(failures))


def _checked(artifact: Artifact, approval: Approval, releases: checks.Releases, task: Task) -> Candidate:
    build = artifact.build
    if build.source.repo_id.casefold() not in {model.casefold() for model in approval.models}:
        raise PromotionError(
            f"{build.source.repo_id} is not the model that {approval.by} asked for", hint="It is not proposed."
        )
    checks.check_shape(build, now=dt.datetime.now(dt.UTC))
    release = releases.of(build)
    candidate = candidate_of(artifact)
    checks.check_size(build, candidate.proven.evidence)
    if hash_files(Path(artifact.folder) / "files", task) != tuple(sorted(build.files, key=lambda f: Path(f.path))):
        raise PromotionError(f"{build.variant.name} is not as it was built", hint="It is not proposed.")
    wanted = {path: f.digest for path, f in notices_of(release).items()}
    for name, content in candidate.notices.items():
        path = Path(str(content))
        if path.is_symlink() or not path.is_file() or path.stat().st_size > sizes.NOTICE:
            raise PromotionError(f"{name!a} is not a licence", hint="It is not proposed.")
        digest = wanted.get(name, "")
        if bytes_digest(path.read_bytes(), lfs=digest.startswith("sha256:")) != digest:
            raise PromotionError(f"{name} is not that of {release.label}", hint="It is not proposed.")
    if links := [p.name for p in Path(artifact.folder).rglob("*") if p.is_symlink()]:
        raise PromotionError(f"{links[0]!a} is a link, which no build leaves", hint="It is not proposed.")
    return Candidate(
        proven=candidate.proven,
        release=release,
        prompt=checks.bounded(candidate.prompt),
        files=candidate.files,
        notices=candidate.notices,
    )


def _propose(
    repo_id: str,
    candidates: Sequence[Candidate],
    pull: str,
    head: str,
    composer: Composer,
    context: Context,
) -> Proposal | None:
    hub, display = context.hub, context.display
    found = hub.record(repo_id)
    if found is None:
        raise UnknownModelError(
            f"there is no {repo_id} to propose anything in", hint="It is made when the model is first published."
        )
    record, parent = found
    change = composer.change(repo_id, candidates, record)
    if change is None:
        display.say(f"{repo_id} holds the same already: nothing to propose")
        return None
    title = title_of(pull, head, change.names)
    with display.task(f"Proposing {change.names} in {repo_id}") as task:
        number = hub.propose(
            repo_id,
            files=change.files,
            delete=change.delete,
            parent=parent,
            title=title,
            description=f"Built by the code of {pull} at {head}, which is not merged. To try it: --revision refs/pr/N.",
            task=task,
        )
    for other in hub.proposals(repo_id):
        if other.number != number and other.title.startswith(prefix_of(pull)):
            try:
                hub.close(repo_id, other.number, f"A newer one is #{number}.")
            except PhiBotError as error:  # it is closed at the latest when it is concluded
                display.say(f"#{other.number} of {repo_id} was not closed: {error.message}")
    new = {c.build_key for c in candidates} - {b.build.build_key for b in record.builds}
    return Proposal(
        repo_id=repo_id,
        number=number,
        url=f"{hub.repo_url(repo_id)}/discussions/{number}",
        builds=tuple(b for b in change.record.builds if b.build.build_key in new),
    )
