"""The payload of a GitHub event, read with every value checked.

GitHub fills fields with what strangers chose (labels, branches) and leaves some null (a fork that was deleted); and
what a person hands over may be anything.
"""

from dataclasses import dataclass
from typing import Self

from bot.errors import ApprovalError
from bot.github.answers import COMMIT, REPOSITORY, Answer

#: The largest number of a pull request that is taken from a person or an event.
MOST_PULLS = 9_999_999_999


@dataclass(frozen=True, kw_only=True)
class EventValue(Answer):
    """A value out of an event. Every reading function raises ApprovalError, naming the field.

    ``what`` says which event it should be, ``instead`` what else a person can give.
    """

    instead: str = ""

    def wrong(self, why: str) -> ApprovalError:
        """Return the error for a field that is not what it should be."""
        return ApprovalError(
            f"the event is not that of {self.what}: {self.where or 'it'} {why}",
            hint=f"Give the whole payload of such an event, as GitHub wrote it{self.instead}.",
        )


@dataclass(frozen=True, kw_only=True)
class WorkflowRun:
    """The event that a workflow has run: in which repository, and of which commit of which branch of which one.

    ``origin`` is None where that repository, a fork, was deleted since.
    """

    repository: str
    head: str
    branch: str
    origin: str | None

    @classmethod
    def from_event(cls, payload: object) -> Self:
        """Read the payload of GitHub's event. Raises ApprovalError, naming the field that is wrong."""
        event = EventValue(what="a workflow that has run", value=payload, instead=", or give --pull OWNER/REPO#N")
        run = event["workflow_run"]
        origin, branch = run.get("head_repository"), run.get("head_branch")
        return cls(
            repository=event["repository"]["full_name"].text(REPOSITORY),
            head=run["head_sha"].text(COMMIT),
            branch=branch.text() if branch is not None else "",  # null where the branch is gone with its fork
            origin=origin["full_name"].text(REPOSITORY) if origin is not None else None,
        )
