"""The embedded Hub's folder: repos, blobs and tokens."""

import json
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from bot.errors import LocalHubError
from bot.hub.local import names
from bot.hub.local.blobs import Blobs
from bot.hub.local.durable import Scratch, locked, read_json, sync_folder
from bot.hub.local.index import Index
from bot.hub.local.limits import Limits
from bot.hub.local.objects import make_tree, regular_file
from bot.hub.local.refused import conflict, not_found
from bot.hub.local.repo import MAIN, Publisher, Repo, Settings
from bot.hub.local.tokens import Grant, Scope, Tokens, digest_of
from bot.hub.local.trust import check_publisher

FORMAT = 1  # of the folder
LFS_SUFFIXES = (
    ".7z", ".bin", ".bz2", ".ckpt", ".data", ".gguf", ".gz", ".h5", ".mlmodel", ".model", ".msgpack", ".npy", ".npz",
    ".onnx", ".onnx_data", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".rar", ".safetensors", ".tar",
    ".tflite", ".tgz", ".xz", ".zip", ".zst",
)  # fmt: skip


class LocalHub:
    """A Hub in a folder, made where there is none. Several processes may have the same folder open.

    ``tokens`` are known to this object alone, beside those that the folder remembers. Raises LocalHubError when the
    folder holds something else.
    """

    def __init__(
        self, folder: Path, *, tokens: Mapping[str, Grant] | None = None, limits: Limits | None = None
    ) -> None:
        self.folder = folder.absolute()
        self.limits = limits or Limits()
        _prepare(self.folder)
        self.scratch = Scratch(self.folder / "tmp")
        self.blobs = Blobs(folder=self.folder / "blobs", uploads=self.folder / "uploads", scratch=self.scratch)
        self.blobs.drop_old_uploads()
        self.tokens = Tokens(
            file=self.folder / "tokens.json",
            first=self.folder / "token",
            lock_file=self._lock_file("tokens"),
            scratch=self.scratch,
            more={digest_of(token): grant for token, grant in (tokens or {}).items()},
        )
        self.index = Index(self.folder / "repos", self._repo)
        self.tokens.make_first()
        self.secret = self._secret()

    def close(self) -> None:
        """Let go of the folder."""
        self.scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def token_file(self) -> Path:
        """The file with the owner's token, which may write everywhere."""
        return self.tokens.first

    # ---- repos -----------------------------------------------------------------------------------------------

    def repos(self, repo_type: str, *, namespace: str | None = None) -> Iterator[Repo]:
        """Yield the repos of one type in the order of their names."""
        root = self.folder / "repos" / f"{repo_type}s"
        for owner in sorted(root.iterdir()) if root.is_dir() else ():
            if owner.is_dir() and namespace in (None, owner.name):
                for folder in sorted(owner.iterdir()):
                    if (folder / "repo.json").exists():
                        yield self._repo(repo_type, owner.name, folder.name)

    def repo(self, repo_type: str, namespace: str, name: str) -> Repo | None:
        """Return a repo, or None when there is none of that name."""
        names.check_namespace(namespace)
        names.check_repo_name(name)
        found = self._repo(repo_type, namespace, name)
        return found if (found.folder / "repo.json").exists() else None

    def create_repo(self, repo_type: str, namespace: str, name: str, *, private: bool, author: str) -> Repo:
        """Make a repo with its first commit, in one step; a 409 when there is one of that name."""
        names.check_namespace(namespace)
        names.check_repo_name(name)
        repo = self._repo(repo_type, namespace, name)
        with locked(repo.lock_file):
            if repo.folder.exists():
                raise conflict(f"You already created this {repo_type} repo: {repo.id}")
            draft = replace(repo, folder=Path(tempfile.mkdtemp(dir=self.scratch.folder)))
            self._begin(draft, Settings(private=private, created=int(time.time())), author)
            repo.folder.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(repo.folder.parent.parent)
            draft.folder.rename(repo.folder)
            sync_folder(repo.folder.parent)
        return repo

    def delete_repo(self, repo: Repo) -> None:
        """Remove a repo in one step. Its blobs stay: others may use them."""
        with locked(repo.lock_file):
            if not repo.folder.exists():
                raise not_found("RepoNotFound", f"there is no {repo.type} {repo.id}")
            self.scratch.remove_tree(repo.folder)

    def _begin(self, draft: Repo, settings: Settings, author: str) -> None:
        content = "".join(f"*{s} filter=lfs diff=lfs merge=lfs -text\n" for s in LFS_SUFFIXES).encode()
        self.blobs.add(content)
        self.scratch.write_json(draft.folder / "repo.json", settings.to_json())
        commit = draft.record(
            make_tree([regular_file(".gitattributes", content)]),
            parents=(),
            author=author,
            title="initial commit",
            description="",
        )
        draft.point(MAIN, commit.id)

    def _repo(self, repo_type: str, namespace: str, name: str) -> Repo:
        return Repo(
            type=repo_type,
            namespace=namespace,
            name=name,
            folder=self.folder / "repos" / f"{repo_type}s" / namespace / name,
            lock_file=self._lock_file(f"{repo_type}--{namespace}--{name}"),
            blobs=self.blobs,
            scratch=self.scratch,
        )

    def _lock_file(self, name: str) -> Path:
        return self.folder / "locks" / f"{name}.lock"

    def _secret(self) -> bytes:
        path = self.folder / "secret"
        with locked(self._lock_file("secret")):
            if not path.exists():
                self.scratch.write(path, secrets.token_bytes(32), mode=0o600)
            return path.read_bytes()


def _prepare(folder: Path) -> None:
    marker = folder / "hub.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # private repos lie in it
        if not marker.exists() and any(f.name != "locks" for f in folder.iterdir()):
            raise LocalHubError(
                f"{folder} holds other things than an embedded Hub", hint="Give an empty folder, or one of a Hub."
            )
        with locked(folder / "locks" / "hub.lock"):
            if not marker.exists():
                draft = folder / "locks" / "hub.json"
                draft.write_text(json.dumps({"format": FORMAT}))
                draft.replace(marker)
            if read_json(marker) != {"format": FORMAT}:
                raise LocalHubError(f"{folder} was made by another version of the bot", hint="Give another folder.")
    except OSError as e:
        raise LocalHubError(f"{folder}: {e.strerror}", hint="Give a folder that you may write to.") from e


def make_token(folder: Path, name: str, scope: Scope, namespaces: Iterable[str]) -> str:
    """Make a token for a Hub's folder and return it. ``*`` stands for every namespace.

    Only its hash is kept. A server that runs over the folder knows it at once.
    """
    with LocalHub(folder) as hub:
        return hub.tokens.make(name, scope, tuple(namespaces))


def trust(folder: Path, path: str, issuer: str, claims: Mapping[str, str]) -> None:
    """Let a repo (``owner/name``, ``datasets/owner/name``) trust workflows, beside those that it trusts already."""
    publisher = check_publisher(Publisher(issuer=issuer, claims=dict(claims)))
    namespace, _, name = path.removeprefix("datasets/").partition("/")
    with LocalHub(folder) as hub:
        repo = hub.repo("dataset" if path.startswith("datasets/") else "model", namespace, name)
        if repo is None:
            raise not_found("RepoNotFound", f"there is no repo {path} in this Hub")
        repo.change_settings(lambda old: replace(old, publishers=(*old.publishers, publisher)))
