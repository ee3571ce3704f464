"""A repo on the Hub, of a type: where its head is, what is in it, and the content of small files."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bot import source
from bot.errors import HubRefusedError
from bot.hub.errors import no_token
from bot.records.artifacts import Json, SourceFile

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, HfApi, ModelInfo

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A repo, and the client of the Hub that it is on."""

    api: "HfApi"
    id: str
    type: RepoType = "model"

    def head(self, revision: str | None = None) -> tuple[str, dict[str, SourceFile]]:
        """Return the commit that a branch, tag or pull request is at (main without one), and the files there by path.

        Raises HubRefusedError where the Hub contradicts itself, among what the library raises.
        """
        from huggingface_hub.errors import RevisionNotFoundError

        ask = self.api.dataset_info if self.type == "dataset" else self.api.model_info
        commit = commit_of(ask(self.id, revision=revision), self.api.endpoint)
        try:
            return commit, self.files(commit)
        except RevisionNotFoundError as error:
            raise HubRefusedError(
                f"{self.api.endpoint} names a commit of {self.id} that it does not have",
                hint="Run the same command again in a few minutes; if it happens again, report it to the Hub.",
            ) from error

    def files(self, commit: str) -> dict[str, SourceFile]:
        """Return all files at a commit by their paths, in the order of these. Raises UnsafeFileNameError."""
        from huggingface_hub.hf_api import RepoFile

        files = []
        for entry in self.api.list_repo_tree(self.id, recursive=True, revision=commit, repo_type=self.type):
            source.check_name(entry.path, where=self.id)
            if isinstance(entry, RepoFile):
                digest = f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
                size = entry.lfs.size if entry.lfs else entry.size
                files.append(SourceFile(path=entry.path, size=size, digest=digest))
        return {f.path: f for f in sorted(files, key=lambda f: f.path)}

    def url(self, commit: str, path: str) -> str:
        """Return where the content of a file is."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.id, path, repo_type=self.type, revision=commit, endpoint=self.api.endpoint)


def commit_of(info: "ModelInfo | DatasetInfo", endpoint: str) -> str:
    """Return the commit that a repo's description is of. Raises HubRefusedError when it names none."""
    if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
        raise HubRefusedError(f"{endpoint} names no commit of {info.id}", hint="Is it a Hugging Face Hub?")
    return str(info.sha)


def accounts_of(api: "HfApi") -> list[str]:
    """Return the names of a token's account and of its organisations; none without a token, or with a wrong one."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    if api.token is False:
        return []
    try:
        account: Json = api.whoami(cache=True)
    except (HfHubHTTPError, LocalTokenNotFoundError):  # whoever needs it says so
        return []
    entries = [account, *(account.get("orgs") or [])] if isinstance(account, dict) else []
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return [name for name in names if isinstance(name, str)]


def account_of(api: "HfApi") -> str:
    """Return the name of the account that a client's token is of. Raises what ``whoami`` raises."""
    return str(whoami(api)["name"])


def whoami(api: "HfApi") -> Json:
    """Return what the Hub says of a client's token: its account, and what it may do.

    Raises TokenError without one, and HubRefusedError when the Hub names no account.
    """
    if api.token is False:
        raise no_token(api.endpoint)
    account: Json = api.whoami(cache=True)  # a client has one token
    if not isinstance(account, dict) or not isinstance(account.get("name"), str):
        raise HubRefusedError(f"{api.endpoint} names no account", hint="Is it a Hugging Face Hub?")
    return account
