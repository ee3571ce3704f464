"""The embedded Hub's folder: repos, blobs and tokens."""

import json
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from bot.errors import LocalHubError
from bot.localhub import names
from bot.localhub.blobs import Blobs
from bot.localhub.collections import Collections
from bot.localhub.downloads import Downloads
from bot.localhub.durable import Scratch, locked, read_json, sync_folder
from bot.localhub.former import FormerNames
from bot.localhub.index import Index
from bot.localhub.limits import ServerLimits
from bot.localhub.objects import make_tree, regular_file
from bot.localhub.refused import conflict, not_found
from bot.localhub.repo import MAIN, LocalRepo
from bot.localhub.settings import Publisher, Settings
from bot.localhub.tokens import Grant, Scope, Tokens, digest_of
from bot.localhub.trust import check_publisher

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
        self, folder: Path, *, tokens: Mapping[str, Grant] | None = None, limits: ServerLimits | None = None
    ) -> None:
        self.folder = folder.absolute()
        self.limits = limits or ServerLimits()
        _prepare(self.folder)
        self.scratch = Scratch(self.folder / "tmp")
        self.blobs = Blobs(
            folder=self.folder / "blobs",
            lock_file=self._lock_file("blobs"),
            uploads=self.folder / "uploads",
            scratch=self.scratch,
        )
        self.blobs.drop_old_uploads()
        self.tokens = Tokens(
            file=self.folder / "tokens.json",
            first=self.folder / "token",
            lock_file=self._lock_file("tokens"),
            scratch=self.scratch,
            more={digest_of(token): grant for token, grant in (tokens or {}).items()},
        )
        self.former = FormerNames(folder=self.folder / "former", scratch=self.scratch)
        self.collections = Collections(
            folder=self.folder / "collections", lock_file=self._lock_file("collections"), scratch=self.scratch
        )
        self._minds_case = not (self.folder / "HUB.JSON").exists()
        self.downloads = Downloads()
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

    def repos(self, repo_type: str, *, namespace: str | None = None) -> Iterator[LocalRepo]:
        """Yield the repos of one type in the order of their names."""
        root = self._root(repo_type)
        for owner in sorted(root.iterdir()) if root.is_dir() else ():
            if owner.is_dir() and namespace in (None, owner.name):
                for folder in sorted(owner.iterdir()):
                    if (folder / "repo.json").exists():
                        yield self._repo(repo_type, owner.name, folder.name)

    def repo(self, repo_type: str, namespace: str, name: str) -> LocalRepo | None:
        """Return a repo, or None when there is none of that very name."""
        names.check_namespace(namespace)
        names.check_repo_name(name)
        found = self._repo(repo_type, namespace, name)
        if not (found.folder / "repo.json").exists():
            return None
        if not self._minds_case and (namespace, name) != self._spelled(repo_type, namespace, name):
            return None
        return found

    def in_any_case(self, repo_type: str, namespace: str, name: str) -> LocalRepo | None:
        """Return the repo of a name, which may be spelled in another case: no two names differ in that alone."""
        found = self.repo(repo_type, namespace, name)
        return found or self.repo(repo_type, *self._spelled(repo_type, namespace, name))

    def find(self, repo_type: str, namespace: str, name: str) -> LocalRepo | None:
        """Return the repo that a name leads to: its own in any case, or one that it had before it was moved."""
        found = self.in_any_case(repo_type, namespace, name)
        if found is None and (now := self.former.leads_to(repo_type, namespace, name)):
            found = self.repo(repo_type, *now.split("/"))
        return found

    def namespace(self, name: str) -> str:
        """Return how a namespace is spelled that has repos, and the name as it is of one that has none."""
        return next((n for t in names.REPO_TYPES if (n := names.find_spelling(self._root(t), name))), name)

    def create_repo(self, repo_type: str, namespace: str, name: str, *, private: bool, author: str) -> LocalRepo:
        """Make a repo with its first commit, in one step; a 409 when there is one of that name."""
        names.check_namespace(namespace)
        names.check_repo_name(name)
        lock_file = self._repo(repo_type, namespace, name).lock_file
        with self.scratch.writing(), self.naming(), locked(lock_file):
            repo = self._repo(repo_type, self.namespace(namespace), name)
            if there := self.in_any_case(repo_type, namespace, name):
                raise conflict(f"You already created this {repo_type} repo: {there.id}")
            draft = replace(repo, folder=Path(tempfile.mkdtemp(dir=self.scratch.folder)))
            self._begin(draft, Settings(private=private, created=int(time.time())), author)
            repo.folder.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(repo.folder.parent.parent)
            draft.folder.rename(repo.folder)
            sync_folder(repo.folder.parent)
            self.former.forget(repo)
        return repo

    def move_repo(self, repo: LocalRepo, namespace: str, name: str) -> LocalRepo:
        """Give a repo another name, to which its former one leads from now on; a 409 when that is taken.

        The former name is remembered first: killed in between, the repo is where it was, and a repo of that very name
        goes before what a name leads to.
        """
        names.check_namespace(namespace)
        names.check_repo_name(name)
        locks = sorted({repo.lock_file, self._repo(repo.type, namespace, name).lock_file})
        with self.naming(), locked(locks[0]), locked(locks[1]) if len(locks) > 1 else nullcontext():
            if not repo.folder.exists():
                raise not_found("RepoNotFound", f"there is no {repo.type} {repo.id}")
            moved = self._repo(repo.type, self.namespace(namespace), name)
            there = self.in_any_case(repo.type, namespace, name)
            if there is not None and there.id != repo.id:
                raise conflict(f"A {repo.type} repository called {there.id} already exists")
            self.former.remember(repo, moved)
            moved.folder.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(moved.folder.parent.parent)
            repo.folder.rename(moved.folder)
            sync_folder(moved.folder.parent)
            sync_folder(repo.folder.parent)
            self.former.forget(moved)
        return moved

    def delete_repo(self, repo: LocalRepo) -> None:
        """Remove a repo in one step. Its blobs are garbage, unless others use them."""
        with self.naming(), locked(repo.lock_file):
            if not repo.folder.exists():
                raise not_found("RepoNotFound", f"there is no {repo.type} {repo.id}")
            self.former.forget_all(repo)
            self.scratch.remove_tree(repo.folder)

    def _begin(self, draft: LocalRepo, settings: Settings, author: str) -> None:
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

    def naming(self) -> AbstractContextManager[None]:
        """Hold the lock under which repos come, go and get other names."""
        return locked(self._lock_file("names"))

    def _root(self, repo_type: str) -> Path:
        return self.folder / "repos" / f"{repo_type}s"

    def _spelled(self, repo_type: str, namespace: str, name: str) -> tuple[str, str]:
        owner = names.find_spelling(self._root(repo_type), namespace) or namespace
        return owner, names.find_spelling(self._root(repo_type) / owner, name) or name

    def _repo(self, repo_type: str, namespace: str, name: str) -> LocalRepo:
        return LocalRepo(
            type=repo_type,
            namespace=namespace,
            name=name,
            folder=self._root(repo_type) / namespace / name,
            lock_file=self._lock_file(f"{repo_type}--{namespace}--{name}".lower()),
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
        repo = hub.find("dataset" if path.startswith("datasets/") else "model", namespace, name)
        if repo is None:
            raise not_found("RepoNotFound", f"there is no repo {path} in this Hub")
        repo.change_settings(lambda old: replace(old, publishers=(*old.publishers, publisher)))
