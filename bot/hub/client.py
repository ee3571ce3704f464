"""The client of a Hub: the real one, or the embedded one. Everything it raises is one of bot.errors."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bot.errors import ConfigError, TokenError, UnknownModelError
from bot.hub import commits, contents, finetunes, headers, proposals, releases
from bot.hub import namespace as lists
from bot.hub.commits import RECORD_FILE
from bot.hub.connection import Connection
from bot.hub.contents import Content, HubFile
from bot.hub.download import download
from bot.hub.errors import hub_errors
from bot.hub.finetunes import Kind, Tune
from bot.hub.headers import TensorRange
from bot.hub.namespace import Listed, Namespace
from bot.hub.proposals import HubPull
from bot.hub.ranges import read_range
from bot.hub.repo import RepoType
from bot.hub.session import HUGGING_FACE, api_of
from bot.hub.trusted_publishers import Publishers
from bot.progress import Task
from bot.records.artifacts import Release, RepoRecord, SourceFile
from bot.source import is_wanted, read_header
from bot.source.changes import WEIGHTS, merged_tensors
from bot.source.lora import Lora
from bot.source.merged import changes_of
from bot.source.safetensors_files import Tensor, check_weights
from bot.source.shape import Shape, shape_of

__all__ = ["RECORD_FILE", "Hub", "HubFile", "HubPull", "connect"]


def connect(endpoint: str | None = None, token: str | None = None, *, trusted_publishers: bool = False) -> "Hub":
    """Return the client of the Hub at ``endpoint``, or at HF_ENDPOINT, or of huggingface.co. Asks it nothing yet.

    Without ``token``, HF_TOKEN or the login of this machine is used (see ``bot.hub.session``). With
    ``trusted_publishers``, repos are written to with tokens for one repo each (see
    ``bot.hub.trusted_publishers``). Raises ConfigError for an endpoint that is not an address.
    """
    endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise ConfigError(
            f"{parts.scheme or 'the endpoint'}://{parts.hostname or ''} is not the address of a Hub",
            hint=f"Give one like {HUGGING_FACE}, without a password in it (--endpoint, HF_ENDPOINT).",
        )
    publishers = Publishers(endpoint) if trusted_publishers else None
    return Hub(endpoint=endpoint, api=api_of(endpoint, token or None), publishers=publishers)


@dataclass(frozen=True, kw_only=True)
class Hub(Connection):
    """One Hub: its repos. Safe to use from several threads."""

    def repo_url(self, repo_id: str) -> str:
        """Return where a person finds a repo."""
        return f"{self.endpoint}/{repo_id}"

    def sources(self, author: str) -> list[Listed]:
        """Return a namespace's models in alphabetical order, by one list; conversions are left out.

        Those of other classes than Phi's say so (``new_class``).

        However the namespace is spelled: a name that the Hub lists nothing of is looked for in other spellings.
        """
        with hub_errors(self.endpoint, author):
            return lists.sources(self.api, author)

    def tunes_of_model(self, base: str, kind: Kind) -> list[Tune]:
        """Return the fine-tunes or the adapters of a model, the most downloaded first, by one list of 100 at most."""
        with hub_errors(self.endpoint, base):
            return finetunes.children(self.api, base, kind)

    def tunes_of_author(self, author: str) -> list[Tune]:
        """Return an author's fine-tunes and adapters of Phi in alphabetical order, by one list of their repos."""
        with hub_errors(self.endpoint, author):
            return finetunes.of_author(self.api, author)

    def namespace(self, owner: str) -> Namespace:
        """Return what is published in a namespace, however it is spelled, by one list of its repos."""
        with hub_errors(self.endpoint, owner):
            return lists.namespace(self.api, owner)

    def spelling(self, owner: str) -> str:
        """Return a user's or an organisation's name as the Hub spells it, and as it is where the Hub knows of none."""
        with hub_errors(self.endpoint, owner):
            return lists.spelling(self.api, owner) or owner

    def release(self, repo_id: str, revision: str | None = None) -> Release:
        """Return the release that a repo holds at a branch, tag or commit (the head of main without one).

        Its id is the Hub's own: as it is spelled there, and by its new name where it was renamed.

        Downloads config.json alone. Raises UnknownModelError, UnknownRevisionError, TokenError (for a gated one too),
        and what can be told without the weights: MissingConfigError, AdapterError, PicklesOnlyError,
        DamagedWeightsError (a shard is missing), UnsafeFileNameError, RemoteCodeError, UnsupportedArchitectureError,
        ConfigValueError.
        """
        with hub_errors(self.endpoint, repo_id, revision=revision):
            return releases.release(self.api, repo_id, revision)

    def shape(self, release: Release) -> Shape:
        """Return the shape of a release by the headers of its weights: of an adapter, that of the merged model.

        Raises what ``headers.shape`` and ``source.merged.changes_of`` do.
        """
        if release.base is None:
            with hub_errors(self.endpoint, release.repo_id, revision=release.commit):
                return headers.shape(self.api, release)
        base = self._tensors(release.base)
        merged = merged_tensors(base, changes_of(release, base, self._tensors(release)))
        return shape_of(merged, release.config, where=release.label, layout=release.layout)

    def base_of(self, lora: Lora, *, where: str) -> Release:
        """Return the release that an adapter in a folder is to be merged into.

        Raises what ``release`` raises, and AdapterError where its config leads to none.
        """
        with hub_errors(self.endpoint):
            return releases.base_of(self.api, lora, where=where)

    def _tensors(self, release: Release) -> Mapping[str, Tensor]:
        if release.folder is not None:
            weights = Path(release.folder) / WEIGHTS
            return read_header(weights) if release.base is not None else check_weights(Path(release.folder))
        with hub_errors(self.endpoint, release.repo_id, revision=release.commit):
            return headers.tensors(self.api, release)

    def download(self, release: Release, folder: Path, task: Task) -> None:
        """Bring a release's content and licence files into an existing folder; a killed download is continued.

        Raises AlteredDownloadError, after removing the file, when one is not what the Hub listed.
        """
        with hub_errors(self.endpoint, release.repo_id, revision=release.commit):
            download(self.api, release, folder, task)

    def outline(self, release: Release, folder: Path, task: Task) -> dict[str, TensorRange]:
        """Bring a release into an empty folder, with holes where the data of its weights are; return what they are for.

        Raises what ``download`` raises, and DamagedWeightsError for a header that is none.
        """
        with hub_errors(self.endpoint, release.repo_id, revision=release.commit):
            download(self.api, release, folder, task, weights=False)
            places: dict[str, TensorRange] = {}
            for file in release.files:
                if file.path.endswith(".safetensors") and is_wanted(file.path):
                    places |= headers.write_header(self.api, release, file, folder / file.path)
            return places

    def read_range(self, release: Release, place: TensorRange, take: Callable[[bytes], None]) -> None:
        """Hand the bytes of a tensor to ``take``, piece by piece. Raises DamagedWeightsError where fewer come."""
        with hub_errors(self.endpoint, release.repo_id, revision=release.commit):
            read_range(self.api, release, place.file, place.begin, place.end, take)

    def read_part(self, place: HubFile, begin: int, end: int) -> bytes:
        """Return the bytes of a file from ``begin`` up to ``end``. Raises DamagedWeightsError where fewer come."""
        found = bytearray()
        with hub_errors(self.endpoint, place.repo_id, revision=place.commit):
            read_range(self.api, place, place.file, begin, end, found.extend)
        return bytes(found)

    def record(self, repo_id: str) -> tuple[RepoRecord, str] | None:
        """Return what is published in a repo and its head, None if there is no such repo.

        A repo in which nothing was published yet has an empty record. Raises ForeignRepoError for a repo that holds
        files but no record, and RecordError for a record that cannot be read.
        """
        with hub_errors(self.endpoint, repo_id):
            return commits.record(self._read(repo_id))

    def read_files(
        self, repo_id: str, names: Sequence[str], *, repo_type: RepoType = "model"
    ) -> tuple[dict[str, bytes], str] | None:
        """Return the content of those of the files that are in a repo, and its head; None if there is no such repo.

        Raises RecordError for a file of more than 10 MB.
        """
        with hub_errors(self.endpoint, repo_id):
            return commits.read_files(self._read(repo_id, repo_type), names)

    def current_id(self, repo_id: str) -> str | None:
        """Return the id of a model repo as the Hub spells it now, by its new name where it was renamed.

        None where there is no such repo, or not for this token.
        """
        try:
            with hub_errors(self.endpoint, repo_id):
                return commits.current_id(self._read(repo_id))
        except (TokenError, UnknownModelError):
            return None

    def files(
        self, repo_id: str, revision: str | None = None, *, repo_type: RepoType = "model"
    ) -> tuple[str, dict[str, SourceFile]] | None:
        """Return the commit that a revision is at (main, or ``refs/pr/N``), and all files there by their paths.

        None if there is no such repo. Raises UnknownRevisionError for a revision that it does not have.
        """
        with hub_errors(self.endpoint, repo_id, revision=revision):
            return commits.head_of(self._read(repo_id, repo_type), revision)

    def is_private(self, repo_id: str) -> bool:
        """Say whether a repo is hidden from those who are not of its namespace. One that is not there yet would be."""
        with hub_errors(self.endpoint, repo_id):
            return commits.is_private(self._read(repo_id))

    def read(self, repo_id: str, commit: str, file: SourceFile, *, repo_type: RepoType = "model") -> bytes:
        """Return the content of a small file at a commit, as ``files`` listed it.

        Raises AlteredDownloadError for another content, and RecordError for a file of more than 10 MB.
        """
        with hub_errors(self.endpoint, repo_id, revision=commit):
            return contents.read(self._read(repo_id, repo_type), commit, file)

    def commit(
        self,
        repo_id: str,
        *,
        files: Mapping[str, Content],
        delete: Sequence[str] = (),
        parent: str | None,
        message: str,
        private: bool = False,
        repo_type: RepoType = "model",
        task: Task,
    ) -> str:
        """Put files into a repo, by their paths there, and take ``delete`` out, in one commit; return its id.

        A large ``HubFile`` is copied by the Hub. ``parent`` is the head that ``record`` or ``files`` returned, None for
        a repo that is not there yet: it is made, ``private`` or not. If nothing changes, no commit is made and the
        parent is returned. Raises ConflictError when someone else was faster.
        """
        with hub_errors(self.endpoint, repo_id, revision=parent):
            return commits.commit(
                self._write(repo_id, repo_type),
                files=files,
                delete=delete,
                parent=parent,
                message=message,
                private=private,
                task=task,
                reader=self._read,
            )

    def upload_ahead(self, repo_id: str, files: Mapping[str, Path], *, private: bool) -> None:
        """Send the content of large files that a later commit is to hold, so that it is quick; it may never come.

        Makes the repo, ``private`` or not, where there is none.
        """
        with hub_errors(self.endpoint, repo_id):
            commits.upload_ahead(self._write(repo_id), files, private=private)

    # ---- pull requests on the Hub --------------------------------------------------------------------------------

    def proposals(self, repo_id: str) -> list[HubPull]:
        """Return the open pull requests of this account in a model repo, newest first; none if there is no repo."""
        with hub_errors(self.endpoint, repo_id):
            return proposals.mine(self._read(repo_id))

    def propose(
        self,
        repo_id: str,
        *,
        files: Mapping[str, Content],
        delete: Sequence[str] = (),
        parent: str,
        title: str,
        description: str,
        task: Task,
    ) -> int:
        """Open a pull request with one commit on top of ``parent``, a commit of main; return its number.

        If one of this account's with that title and that content is open, it is returned. Raises UnknownRevisionError
        or ConflictError for a parent that is not in main, HubRefusedError where nothing would change.
        """
        with hub_errors(self.endpoint, repo_id, revision=parent):
            return proposals.propose(
                self._write(repo_id),
                files=files,
                delete=delete,
                parent=parent,
                title=title,
                description=description,
                task=task,
                reader=self._read,
            )

    def update_proposal(
        self,
        repo_id: str,
        number: int,
        *,
        files: Mapping[str, Content],
        delete: Sequence[str] = (),
        message: str,
        task: Task,
    ) -> str:
        """Put a further commit onto an open pull request where its content differs; return the head that it has then.

        Raises ConflictError when someone else was faster.
        """
        with hub_errors(self.endpoint, repo_id, revision=f"refs/pr/{number}"):
            return proposals.update(
                self._write(repo_id), number, files=files, delete=delete, message=message, task=task, reader=self._read
            )

    def merge(self, repo_id: str, number: int, comment: str = "", *, commit: str | None = None) -> str:
        """Merge a pull request, if that is not done yet; return the commit on main.

        With ``commit``, only if that is its head. Raises ConflictError where main or the pull request was changed,
        HubRefusedError for a closed one.
        """
        with hub_errors(self.endpoint, repo_id, revision=f"refs/pr/{number}"):
            return proposals.merge(self._write(repo_id), number, comment, commit=commit)

    def close(self, repo_id: str, number: int, comment: str = "") -> str:
        """Close a pull request, if it is open; return what it is then: closed, or merged by somebody."""
        with hub_errors(self.endpoint, repo_id, revision=f"refs/pr/{number}"):
            return proposals.close(self._write(repo_id), number, comment)
