"""What the Action and the workflows ask of GitHub, tried as far as it only reads."""

from dataclasses import dataclass, field

from bot.github import Repository, find_pull, open_repository, permission_of, reading
from bot.live.trials import NotTriedError, Seen, Trial

_WRITES = "the doctor writes nothing on GitHub; a run that may not goes on, and says so"
_NO_RIGHTS = (
    "It is so for the token of an app, such as GitHub Actions'; an account of your own should be a collaborator."
)


@dataclass(kw_only=True)
class GithubTrials:
    """The trials of one run, on the repository ``name`` (owner/name), "" for none."""

    name: str
    token: str = field(repr=False)
    _repository: Repository | None = field(default=None, repr=False)
    _issue: int = 0

    def trials(self) -> list[Trial]:
        """Return all of them, in their order."""
        here = ("GitHub: repository",)
        reports = "issues and comments of the bot cannot be made"
        return [
            Trial(
                name="GitHub: repository",
                expected="its name, and what the token may do there as GitHub tells",
                action=self._rights,
                without=reports,
            ),
            Trial(
                name="GitHub: account",
                expected="whose token it is",
                action=self._account,
                without="the bot does not know its own issues",
                needs=here,
            ),
            Trial(
                name="GitHub: issues",
                expected="those of the bot (issues: read)",
                action=self._issues,
                without="releases get no issue",
                needs=here,
            ),
            Trial(
                name="GitHub: comments",
                expected="those of an issue (pull-requests: read)",
                action=self._comments,
                without="pull requests get no comment",
                needs=("GitHub: issues",),
            ),
            Trial(
                name="GitHub: pull requests",
                expected="the open ones of a branch (pull-requests: read)",
                action=self._pulls,
                without="pull requests of forks are not found",
                needs=here,
            ),
            Trial(
                name="GitHub: rights of an account",
                expected="those of the token's own (metadata: read)",
                action=self._permission,
                without="nobody's label counts",
                needs=("GitHub: account",),
            ),
            Trial(
                name="GitHub: write issues and comments",
                expected="issues: write, pull-requests: write",
                action=self._writes,
                without=reports,
            ),
        ]

    def _open(self) -> Repository:
        if not self.token:
            raise NotTriedError("GITHUB_TOKEN is not set")
        if not self.name:
            raise NotTriedError("no repository is named: --github OWNER/NAME, or GITHUB_REPOSITORY")
        if self._repository is None:
            self._repository = open_repository(self.name)
        return self._repository

    def _rights(self) -> Seen:
        return Seen(reading.told(self._open()))

    def _account(self) -> Seen:
        return Seen(self._open().account)

    def _issues(self) -> Seen:
        self._issue = reading.first_issue(self._open())
        return Seen(f"#{self._issue} is one" if self._issue else "there is none yet")

    def _comments(self) -> Seen:
        repository = self._open()
        if not self._issue:
            raise NotTriedError("there is no issue to look at")
        return Seen(f"of #{self._issue}: {reading.comments(repository, self._issue)} on the first page")

    def _pulls(self) -> Seen:
        found = find_pull(self._open(), head_repository=self.name, head_branch="phi-bot-doctor", head_sha="0" * 40)
        return Seen("listed, and none of that branch" if found is None else f"#{found.number}")

    def _permission(self) -> Seen:
        repository = self._open()
        found = permission_of(repository, repository.account)
        return Seen(f"{repository.account}: {found}", advice=_NO_RIGHTS if found == "none" else "")

    def _writes(self) -> Seen:
        self._open()
        raise NotTriedError(_WRITES)
