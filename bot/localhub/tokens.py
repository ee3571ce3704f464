"""Who may do what. Tokens are kept as hashes; only the first one is in a file of its own, for its owner only."""

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot.localhub import names
from bot.localhub.durable import Scratch, locked, read_json
from bot.records.artifacts import Record

Scope = Literal["read", "write"]
EVERY_NAMESPACE = "*"


@dataclass(frozen=True, kw_only=True)
class Grant(Record):
    """The rights of a token: the user's ``name``, a scope, and the namespaces whose repos it reads or writes.

    Beside namespaces there may be single repos, as ``owner/name`` and ``datasets/owner/name``: then it is for what is
    listed alone, not for the user's own namespace. Public repos can be read by anybody. A write token may open pull
    requests on every repo that it can read, unless it is for single repos. After ``until`` (seconds since 1970) it
    gives nothing.
    """

    name: str
    scope: Scope
    namespaces: tuple[str, ...]
    until: int | None = None

    @property
    def is_for_repos(self) -> bool:
        """Say whether it is for single repos."""
        return any("/" in n for n in self.namespaces)

    def belongs_to(self, namespace: str) -> bool:
        """Say whether private repos of a namespace can be read, all of them."""
        own = namespace.lower() == self.name.lower() and not self.is_for_repos
        return own or self._lists(namespace) or EVERY_NAMESPACE in self.namespaces

    def may_read(self, namespace: str, path: str) -> bool:
        """Say whether a private repo can be read, whose pages are at ``path``."""
        return self.belongs_to(namespace) or self._lists(path)

    def may_change(self, namespace: str, path: str) -> bool:
        """Say whether the files of a repo can be changed, whose pages are at ``path``."""
        return self.scope == "write" and self.may_read(namespace, path)

    def may_propose(self, namespace: str, path: str) -> bool:
        """Say whether pull requests and comments can be made in a repo that can be read."""
        return self.scope == "write" and (not self.is_for_repos or self.may_read(namespace, path))

    def may_write(self, namespace: str) -> bool:
        """Say whether repos of a namespace can be made, changed and deleted."""
        return self.scope == "write" and self.belongs_to(namespace)

    def spelled(self, namespace: str) -> str:
        """Return a namespace as this token spells it, if it does."""
        return next((n for n in (self.name, *self.namespaces) if n.lower() == namespace.lower()), namespace)

    def _lists(self, place: str) -> bool:
        return place.lower() in (n.lower() for n in self.namespaces)  # no two names differ in case alone


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of a folder, and those that only this process knows."""

    file: Path
    first: Path
    lock_file: Path
    scratch: Scratch
    more: Mapping[str, Grant]  # by hash

    def find(self, token: str) -> Grant | None:
        """Return what a token gives, or None for a wrong one."""
        digest = digest_of(token)
        found = self.more.get(digest) or self._read().get(digest)
        return None if found is None or _is_over(found) else found

    def make(self, name: str, scope: Scope, namespaces: tuple[str, ...]) -> str:
        """Make a token, remember its hash, and return it: this is the only time that it is seen."""
        names.check_namespace(name)
        for namespace in namespaces:
            if namespace != EVERY_NAMESPACE:
                _check_place(namespace)
        return self.make_for(Grant(name=name, scope=scope, namespaces=namespaces))

    def make_for(self, grant: Grant) -> str:
        """Make a token for a grant that needs no check."""
        token = f"hub_{secrets.token_urlsafe(32)}"
        with locked(self.lock_file):
            self._remember(token, grant)
        return token

    def make_first(self) -> bool:
        """Make the token of the folder's owner where there is none; say whether one was made."""
        with locked(self.lock_file):
            if self.first.exists():
                return False
            token = f"hub_{secrets.token_urlsafe(32)}"
            self._remember(token, Grant(name="local", scope="write", namespaces=(EVERY_NAMESPACE,)))
            self.scratch.write(self.first, token.encode(), mode=0o600)
            return True

    def _remember(self, token: str, grant: Grant) -> None:
        known = {digest: g.to_json() for digest, g in self._read().items() if not _is_over(g)}
        known[digest_of(token)] = grant.to_json()
        self.scratch.write_json(self.file, known, mode=0o600)

    def _read(self) -> dict[str, Grant]:
        try:
            return {digest: Grant.from_json(g) for digest, g in read_json(self.file).items()}
        except FileNotFoundError:
            return {}


def _is_over(grant: Grant) -> bool:
    return grant.until is not None and time.time() >= grant.until


def _check_place(text: str) -> None:
    """Refuse what is neither a namespace nor a repo."""
    namespace, slash, name = text.removeprefix("datasets/").partition("/")
    names.check_namespace(namespace)
    if slash:
        names.check_repo_name(name)


def digest_of(token: str) -> str:
    """Return the hash under which a token is kept; a token is 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
