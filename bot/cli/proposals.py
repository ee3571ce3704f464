"""Commands for requests of a pull request on GitHub: note who asked, propose the files, merge or close."""

import os
import re
from pathlib import Path

import click

from bot.cli.options import Options, artifacts_of, common, finish, pull_request, run_step
from bot.errors import ApprovalError, GithubError
from bot.github import Repository, WorkflowRun, find_pull, open_repository, read_pull
from bot.reconvert import approval
from bot.reconvert.approval import Labeling
from bot.reconvert.conclude import conclude
from bot.reconvert.propose import propose
from bot.records.artifacts import Json, Report
from bot.records.failures import failure, merge_reports
from bot.steps.announce import announce
from bot.workspace import read_json

_HEAD = re.compile(r"[0-9a-f]{40}")

_pull_option = click.option("--pull", metavar="OWNER/REPO#N", help="The pull request on GitHub.")


@click.command("approve")
@click.option("--event", type=click.Path(path_type=Path), help="The event's payload. Default: GITHUB_EVENT_PATH.")
@common
def approve_command(event: Path | None, options: Options) -> None:
    """Record the models that a label `convert:MODEL` asks for and the commit, if the person who set it may do so.

    \b
    Example: phi-bot approve --event event.json
    """
    config = options.context().config
    labeling = Labeling.from_event(_event(event))
    repository = open_repository(labeling.repository)
    if config.run.dry_run:
        click.echo(f"A dry run: {', '.join(approval.models_of(labeling.label, config))} would be noted.")
        return
    noted = approval.approve(repository, labeling, config)
    click.echo(f"{noted.by} asked for {', '.join(noted.models)} from {noted.head[:12]}")


@click.command("propose")
@click.argument("sources", nargs=-1, required=True, metavar="PROVEN.json|FOLDER...")
@_pull_option
@click.option("--head", required=True, metavar="SHA", help="The commit that they were built from, as GitHub says it.")
@common
def propose_command(sources: tuple[str, ...], pull: str | None, head: str, options: Options) -> int:
    """Open pull requests on the Hub with the files that the code of a pull request on GitHub built.

    Without --pull, it is the pull request of the event's workflow run.

    \b
    Example: phi-bot propose artifacts/* --head 2fe192450127e6a83f7441aef6e3ca586c338b77 --pull my-org/phi-bot#7
    """
    context = options.context()
    if not _HEAD.fullmatch(head):
        raise click.BadParameter(f"{head!a} is not a commit of 40 hex digits", param_hint="--head")
    repository, number = _pull(pull) if pull else _pull_of_run(head)
    found = read_pull(repository, number)
    if found.state != "open" or found.head_sha != head:
        state = f"is at {found.head_sha[:12]} by now" if found.state == "open" else "is closed"
        raise ApprovalError(
            f"{repository.name}#{number} {state}, and this was built from {head[:12]}", hint="Nothing is proposed."
        )
    approved = approval.require(repository, number, head)
    name = f"{repository.name}#{number}"
    given = artifacts_of(sources, "publish", context)
    if context.config.run.dry_run:
        click.echo(f"A dry run: {len(given.artifacts)} artifacts would be checked and proposed.", err=True)
        return 0

    context.hub.check_rights()
    context = context.spelled()

    def proposed() -> Report:
        report = propose(given.artifacts, context, pull=name, approval=approved)
        if report.proposals:
            try:
                approval.say(repository, number, approved, report.proposals)
            except GithubError as error:  # they are there all the same
                report = merge_reports(report, Report(failures=(failure(name, "comment", "publish", error),)))
        announce(merge_reports(Report(failures=given.failures), report))
        return report

    return run_step(proposed, options, given.failures)


@click.command("conclude")
@_pull_option
@common
def conclude_command(pull: str | None, options: Options) -> int:
    """Merge the pull requests on the Hub of one on GitHub that was merged; close those of one that was closed.

    \b
    Example: phi-bot conclude --pull my-org/phi-bot#7
    """
    context = options.context()
    if pull is None:
        raise click.UsageError("--pull is missing")
    repository, number = _pull(pull)
    found = read_pull(repository, number)
    if found.state == "open":
        raise ApprovalError(f"{pull} is open", hint="It is concluded when it is merged or closed.")
    approved = approval.approval_of(repository, number)
    if approved is None or context.config.run.dry_run:
        click.echo(f"{pull}: {'nothing was asked for' if approved is None else 'a dry run, nothing is done'}", err=True)
        announce(Report())
        return finish(Report(), options)

    context.hub.check_rights()
    context = context.spelled()

    def ended() -> Report:
        report = conclude(found, pull, approved.models, context)
        announce(report)
        return report

    return run_step(ended, options)


def _pull(name: str) -> tuple[Repository, int]:
    repository, number = pull_request(name)
    return open_repository(repository), number


def _pull_of_run(head: str) -> tuple[Repository, int]:
    """Return the pull request that the workflow run of this event was of. The event of a fork's names none."""
    run = WorkflowRun.from_event(_event(None))
    if run.head != head:
        raise ApprovalError(f"the workflow run was not of {head[:12]}", hint="Nothing is proposed.")
    if run.origin is None:
        raise ApprovalError(
            f"the fork with {head[:12]} was deleted: the event's workflow_run.head_repository is null",
            hint="Nothing is proposed. Whoever opened the pull request can open it again from another fork.",
        )
    repository = open_repository(run.repository)
    pull = find_pull(repository, head_repository=run.origin, head_branch=run.branch, head_sha=head)
    if pull is None:
        raise ApprovalError(f"no open pull request is at {head[:12]}", hint="Was another commit pushed since?")
    return repository, pull.number


def _event(path: Path | None) -> Json:
    given = path or (Path(os.environ["GITHUB_EVENT_PATH"]) if os.environ.get("GITHUB_EVENT_PATH") else None)
    if given is None:
        raise click.UsageError("there is no event: give --event, or --pull")
    return read_json(given)
