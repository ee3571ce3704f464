"""The client of a Hub: the real one, or the embedded one. Everything it raises is one of bot.errors."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bot.errors import ConfigError, HubRefusedError
from bot.hub import commits, releases
from bot.hub import namespace as lists
from bot.hub.commits import RECORD_FILE
from bot.hub.download import download
from bot.hub.failures import no_token, told
from bot.hub.library import HUGGING_FACE, api_of
from bot.hub.namespace import Listed, Namespace
from bot.hub.repo import Repo, RepoType
from bot.progress import Task
from bot.records import Json, Release, RepoRecord

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["RECORD_FILE", "Hub", "connect"]


def connect(endpoint: str | None = None, token: str | None = None) -> "Hub":
    """Return the client of the Hub at ``endpoint``, or at HF_ENDPOINT, or of huggingface.co. Asks it nothing yet.

    Without ``token``, HF_TOKEN or the login of this machine is used (see ``bot.hub.library``). Raises ConfigError for
    an endpoint that is no address.
    """
    endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise ConfigError(
            f"{parts.scheme or 'the endpoint'}://{parts.hostname or ''} is no address of a Hub",
            hint=f"Give one like {HUGGING_FACE}, without a password in it (--endpoint, HF_ENDPOINT).",
        )
    return Hub(endpoint=endpoint, api=api_of(endpoint, token or None))


@dataclass(frozen=True, kw_only=True)
class Hub:
    """One Hub, and what a token may do there. Safe to use from several threads."""

    endpoint: str
    api: "HfApi" = field(repr=False, compare=False)

    def whoami(self) -> str:
        """Return the name of the account whose token is used. Raises TokenError without one, or with a wrong one."""
        if self.api.token is False:
            raise no_token(self.endpoint)
        with told(self.endpoint):
            account: Json = self.api.whoami()
        if not isinstance(account, dict) or not isinstance(account.get("name"), str):
            raise HubRefusedError(f"{self.endpoint} names no account", hint="Is it a Hugging Face Hub?")
        return str(account["name"])

    def check(self) -> None:
        """Ask for something that everybody may see. Raises HubUnreachableError, or TokenError for a wrong token."""
        with told(self.endpoint):
            list(self.api.list_models(limit=1))

    def repo_url(self, repo_id: str) -> str:
        """Return where a person finds a repo."""
        return f"{self.endpoint}/{repo_id}"

    def sources(self, author: str) -> list[Listed]:
        """Return a namespace's Phi repos in alphabetical order, by one list; conversions are left out."""
        with told(self.endpoint, author):
            return lists.sources(self.api, author)

    def namespace(self, owner: str) -> Namespace:
        """Return what is published in a namespace, by one list of its repos."""
        with told(self.endpoint, owner):
            return lists.namespace(self.api, owner)

    def release(self, repo_id: str, revision: str | None = None) -> Release:
        """Return the release that a repo holds at a branch, tag or commit (the head of main without one).

        Downloads config.json alone. Raises UnknownModelError, UnknownRevisionError, TokenError (for a gated one too),
        and what can be told without the weights: MissingConfigError, PicklesOnlyError, DamagedWeightsError (a shard is
        missing), UnsafeFileNameError, RemoteCodeError, UnsupportedArchitectureError (quantized already).
        """
        with told(self.endpoint, repo_id, revision=revision):
            return releases.release(self.api, repo_id, revision)

    def download(self, release: Release, folder: Path, task: Task) -> None:
        """Bring a release's content and licence files into an existing folder; a killed download is continued.

        Raises AlteredDownloadError, after removing the file, when one is not what the Hub listed.
        """
        with told(self.endpoint, release.repo_id, revision=release.commit):
            download(self.api, release, folder, task)

    def record(self, repo_id: str) -> tuple[RepoRecord, str] | None:
        """Return what is published in a repo and its head, None if there is no such repo.

        A repo in which nothing was published yet has an empty record. Raises ForeignRepoError for a repo that holds
        files but no record, and RecordError for a record that cannot be read.
        """
        with told(self.endpoint, repo_id):
            return commits.record(Repo(api=self.api, id=repo_id))

    def read_files(
        self, repo_id: str, names: Sequence[str], *, repo_type: RepoType = "model"
    ) -> tuple[dict[str, bytes], str] | None:
        """Return the content of those of the files that are in a repo, and its head; None if there is no such repo.

        Raises RecordError for a file of more than 10 MB.
        """
        with told(self.endpoint, repo_id):
            return commits.read_files(Repo(api=self.api, id=repo_id, type=repo_type), names)

    def commit(
        self,
        repo_id: str,
        *,
        files: Mapping[str, Path | bytes],
        delete: Sequence[str] = (),
        parent: str | None,
        message: str,
        private: bool = False,
        repo_type: RepoType = "model",
        task: Task,
    ) -> str:
        """Put files into a repo, by their paths there, and take ``delete`` out, in one commit; return its id.

        ``parent`` is the head that ``record`` returned, None for a repo that is not there yet: it is made, ``private``
        or not. If nothing changes, no commit is made and the parent is returned. Raises ConflictError when someone else
        was faster.
        """
        with told(self.endpoint, repo_id):
            return commits.commit(
                Repo(api=self.api, id=repo_id, type=repo_type),
                files=files,
                delete=delete,
                parent=parent,
                message=message,
                private=private,
                task=task,
            )
