"""Approvals: the models that a maintainer asks to convert from a pull request, and the commit of it.

A label asks. It says nothing about the commit, and whoever opened the pull request can push another one after it. So
the commit at which a maintainer set the label is written down at that moment, in a comment of the bot's own, by a job
that runs nothing of the pull request; and only what was built from that commit is proposed.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from markupsafe import Markup

from bot.config import Config
from bot.errors import ApprovalError
from bot.github import (
    COMMIT,
    MOST_PULLS,
    REPOSITORY,
    EventValue,
    Repository,
    permission_of,
    put_comment,
    read_comment,
    remove_label,
)
from bot.pages import templates
from bot.records.artifacts import Commit, Proposal, Record
from bot.records.base import pattern

PREFIX = "convert:"
EVERY = "all"

_MARKER = "convert"
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
ModelId = Annotated[str, pattern(_MODEL.pattern, "a repo on the Hub")]
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?(?:\[bot\])?")
Login = Annotated[str, pattern(_LOGIN.pattern, "a login")]
_MAY = ("admin", "maintain", "write")
_NOTE = re.compile(r"<!-- phi-bot: approved (\{.*\}) -->")


@dataclass(frozen=True, kw_only=True)
class Labeling(Record):
    """The event that a label was set: in which repository, by whom, on which pull request, at which commit then."""

    repository: str
    number: int
    head: Commit
    label: str
    sender: Login

    @classmethod
    def from_event(cls, payload: object) -> Self:
        """Read the payload of GitHub's event. Raises ApprovalError, naming the field that is wrong."""
        event = EventValue(what="a label that was set on a pull request", value=payload)
        action = event["action"].text()
        if action != "labeled":
            raise ApprovalError(f"the event is {action[:100]!r}, not labeled", hint="Run it on that event.")
        pull = event["pull_request"]
        return cls(
            repository=event["repository"]["full_name"].text(REPOSITORY),
            number=pull["number"].number(MOST_PULLS),
            head=pull["head"]["sha"].text(COMMIT),
            label=event["label"]["name"].text(),
            sender=event["sender"]["login"].text(_LOGIN),
        )


@dataclass(frozen=True, kw_only=True)
class Approval(Record):
    """The request of a maintainer: the commit of the pull request, and models by their repos on the Hub."""

    head: Commit
    models: tuple[ModelId, ...]
    by: Login


def models_of(label: str, config: Config) -> tuple[str, ...]:
    """Return the models that a label names. Raises ApprovalError for a label that names none."""
    if label == f"{PREFIX}{EVERY}":
        if not config.reconvert.models:
            raise ApprovalError(
                f"the label {label} has no models to convert",
                hint="List them in [reconvert] models of the configuration.",
            )
        return config.reconvert.models
    model = label.removeprefix(PREFIX)
    if not label.startswith(PREFIX) or not _MODEL.fullmatch(model):
        raise ApprovalError(
            f"the label {label!a} names no model", hint=f"A label is {PREFIX}OWNER/NAME or {PREFIX}all."
        )
    return (model,)


def approve(repository: Repository, labeling: Labeling, config: Config) -> Approval:
    """Write down what a label asks for, if whoever set it may. Otherwise take the label off, and raise ApprovalError.

    Models that were asked for at the same commit before are kept.
    """
    models = models_of(labeling.label, config)
    permission = permission_of(repository, labeling.sender)
    if permission not in _MAY:
        remove_label(repository, labeling.number, labeling.label)
        raise ApprovalError(
            f"{labeling.sender} may not ask for conversions: their permission here is {permission!r}",
            hint=f"It takes {', '.join(_MAY)}. The label was removed.",
        )
    known = approval_of(repository, labeling.number)
    if known is not None and known.head == labeling.head:
        models = tuple(dict.fromkeys((*known.models, *models)))
    approval = Approval(head=labeling.head, models=models, by=labeling.sender)
    say(repository, labeling.number, approval, ())
    return approval


def approval_of(repository: Repository, number: int) -> Approval | None:
    """Return what was approved for a pull request last, None where nothing was. Raises GithubError."""
    text = read_comment(repository, number, _MARKER)
    note = _NOTE.search(text) if text else None
    if note is None:
        return None
    try:
        return Approval.from_json(json.loads(note[1]))
    except ValueError as error:
        raise ApprovalError(
            "what was approved cannot be read: the comment of phi-bot was changed", hint="Set the label again."
        ) from error


def require(repository: Repository, number: int, head: str) -> Approval:
    """Return the approval of the commit that something was built from. Raises ApprovalError without one."""
    approval = approval_of(repository, number)
    if approval is None:
        raise ApprovalError(
            f"nobody asked for a conversion from pull request {number}", hint=f"A maintainer sets {PREFIX}OWNER/NAME."
        )
    if approval.head != head:
        raise ApprovalError(
            f"{approval.by} asked for a conversion of {approval.head[:12]}, and this was built from {head[:12]}",
            hint="Look at what was pushed since, and set the label again.",
        )
    return approval


def say(repository: Repository, number: int, approval: Approval, proposals: Sequence[Proposal]) -> None:
    """Write the comment that says what was asked for, and what can be tried. Raises GithubError."""
    note = Markup(json.dumps(approval.to_json()))  # noqa: S704 - hex digits, and names of letters, digits, - _ and .
    text = (
        templates.environment()
        .get_template("candidates.md.j2")
        .render(approval=approval, proposals=proposals, note=note)
    )
    put_comment(repository, number, _MARKER, text.strip())
