"""The doctor on the live services: all trials in one run, and scratch that is gone whatever happens."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bot.context import Context
from bot.errors import ConfigError, PhiBotError
from bot.hub import jobs, retry
from bot.hub.client import Hub
from bot.live import hub_trials
from bot.live.github_trials import GithubTrials
from bot.live.hub_calls import HubCalls
from bot.live.scratch import Scratch
from bot.live.trials import Course, Tried, attempt, untried, with_needs
from bot.progress import Task

_INTERRUPTED = "the run was interrupted before"


@dataclass(kw_only=True)
class LiveDoctor:
    """One run, of all calls or ``only`` of some and those that they need.

    ``rows`` can be asked for at any time, also after an interruption. Raises ConfigError for another
    name than theirs.
    """

    context: Context
    namespace: str
    repository: str = ""
    only: Collection[str] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    _removed: Tried | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        hub, config = self.context.hub, self.context.config
        self._scratch = Scratch(hub=hub, namespace=self.namespace)
        calls = HubCalls(hub=hub, config=config, namespace=self.namespace, scratch=self._scratch)
        github_token = self.environ.get("GITHUB_TOKEN", "").strip()
        github = GithubTrials(name=self.repository, token=github_token)
        self.trials = [*hub_trials.trials(calls), *github.trials()]  #: all that there are but the last
        self.removing = hub_trials.removing(calls)
        if unknown := sorted(set(self.only) - {trial.name for trial in self.trials}):
            raise ConfigError(
                f"{unknown[0]!a} is not a call that is tried",
                hint=f"--only takes: {', '.join(trial.name for trial in self.trials)}.",
            )
        self._course = Course(with_needs(self.trials, self.only), secrets=(github_token, _token_of(hub)))

    def run(self) -> None:
        """Try all calls, and remove what was made: after an interruption too, which is raised then."""
        with self.context.display.task("Trying all calls") as task, retry.in_a_hurry():
            try:
                self._course.run(task)
            finally:
                self._clean(task)

    def rows(self, why_not: str = _INTERRUPTED) -> list[Tried]:
        """Return the table, a row for each call; ``why_not`` says why the run did not come to the others."""
        return [*self._course.rows(why_not), self._removed or untried(self.removing, why_not)]

    def _clean(self, task: Task) -> None:
        task.update(self.removing.name, 0, 0, "calls")
        try:
            self._removed = self._course.masked(attempt(self.removing))
        finally:
            left = self._scratch.begun if self._removed is None else ()
            if left:  # interrupted again, while it was removing
                self.context.display.say(f"May be left in {self.namespace}: {', '.join(left)}")


def _token_of(hub: Hub) -> str:
    """Return the token that the client uses, "" without one."""
    try:
        return jobs.token_of(hub)
    except PhiBotError:
        return ""
