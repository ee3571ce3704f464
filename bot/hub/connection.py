"""A connection to a Hub: its address, the account of a token, and the rights of that account."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.errors import TokenError
from bot.hub import rights
from bot.hub.errors import hub_errors
from bot.hub.repo import Repo, RepoType, account_of, whoami
from bot.hub.trusted_publishers import Publishers
from bot.records.artifacts import Json

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One Hub, and what a token may do there. Safe to use from several threads."""

    endpoint: str
    api: "HfApi" = field(repr=False, compare=False)
    publishers: Publishers | None = field(default=None, repr=False, compare=False)

    def check(self) -> None:
        """Ask for something that everybody may see. Raises HubUnreachableError, or TokenError for a wrong token."""
        with hub_errors(self.endpoint):
            list(self.api.list_models(limit=1))

    def whoami(self) -> str:
        """Return the name of the account whose token is used. Raises TokenError without one, or with a wrong one."""
        with hub_errors(self.endpoint):
            return account_of(self.api)

    def check_rights(self) -> None:
        """Make sure that there is something to write with: a token, or a workflow's identity. Raises TokenError."""
        if self.publishers:
            self.publishers.check()
        elif (why := rights.only_reads(self._account())) is not None:
            raise self._no_right(why)

    def unwritable(self, repos: Iterable[str]) -> dict[str, TokenError]:
        """Return those of some repos that surely cannot be written to, with the reason. Writes nothing.

        A dataset is ``datasets/owner/name``. Raises TokenError where it is all of them, for then nothing can be done.
        """
        wanted = list(dict.fromkeys(repos))
        refused: dict[str, TokenError] = {}
        if self.publishers:
            self.publishers.check()
            for repo in wanted:
                try:
                    self.publishers.token(repo)
                except TokenError as error:
                    refused[repo] = error
        elif wanted:
            account = self._account()
            for repo in wanted:
                owner = repo.removeprefix("datasets/").partition("/")[0]
                if (why := rights.objection(account, owner, repos=(repo,))) is not None:
                    refused[repo] = self._no_right(why)
        if refused and len(refused) == len(wanted):
            raise next(iter(refused.values()))
        return refused

    def check_jobs(self, payer: str) -> None:
        """Make sure that jobs can be run at the expense of ``payer``, as far as the Hub says so. Raises TokenError."""
        if (why := rights.objection(self._account(), payer, permission=rights.RUN_JOBS)) is not None:
            raise self._no_right(why)

    def _account(self) -> Json:
        with hub_errors(self.endpoint):
            return whoami(self.api)

    def _no_right(self, why: str) -> TokenError:
        return TokenError(
            f"{self.endpoint} will not take it: {why}",
            hint="Set HF_TOKEN to a token that may write there, or choose another namespace (--namespace).",
        )

    def _read(self, repo_id: str, repo_type: RepoType = "model") -> Repo:
        api = self.publishers.reading(repo_id, repo_type) if self.publishers else None
        return Repo(api=api or self.api, id=repo_id, type=repo_type)

    def _write(self, repo_id: str, repo_type: RepoType = "model") -> Repo:
        api = self.publishers.writing(repo_id, repo_type) if self.publishers else self.api
        return Repo(api=api, id=repo_id, type=repo_type)
