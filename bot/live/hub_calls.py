"""The calls to the Hub that the doctor makes: what each does, and what it has to show."""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bot.config import Config
from bot.errors import AlteredDownloadError, ConflictError, HubRefusedError, TokenError
from bot.hub import jobs, scheduled, scratch
from bot.hub.client import Hub, HubFile
from bot.hub.contents import Content
from bot.hub.rights import objection, permissions
from bot.live.scratch import Scratch
from bot.live.trials import NotTriedError, Seen
from bot.progress import Silent
from bot.records.artifacts import SourceFile
from bot.records.base import Json
from bot.state.memory import Memory
from bot.state.store import Store

LARGE_BYTES = 300_000  # of a file that goes up as a large one, for its name ends in .bin
PART_BYTES = 1000  # that are asked for by a range
LARGE_FILE = "large.bin"

_HINT = "Run it again; if it happens again, report it to the Hub."


@dataclass(kw_only=True)
class HubCalls:
    """The calls of one run, and what they hand on to each other.

    Each returns what it showed, and raises what the client of the Hub does, or NotTriedError.
    """

    hub: Hub
    config: Config
    namespace: str
    scratch: Scratch
    _head: str = ""  # of the first repo
    _sent: dict[str, bytes] = field(default_factory=dict)  # into it, by path
    _model: str = ""  # one of the author's
    _pull: int = 0
    _slug: str = ""  # of the collection

    def whoami(self) -> Seen:
        """Ask whose token it is, and judge by the answer whether it may write in the namespace."""
        account = scratch.account(self.hub)
        if (why := objection(account, self.namespace)) is not None:
            raise TokenError(
                why,
                hint=f"Make a token that may write to the repos of {self.namespace}, and set HF_TOKEN to it.",
            )
        return Seen(f"{account['name']}, {_role(account, self.namespace)}")

    def page_through(self, author: str) -> Seen:
        """Follow the pages of an author's list."""
        whole = scratch.first_pages(self.hub, author)
        if len(whole.ids) < 2:
            raise NotTriedError(f"{author or 'no author'} has no two models")
        one = scratch.first_pages(self.hub, author, limit=1)
        if len(one.ids) != 1 or one.following is None or set(one.ids) & set(one.following):
            raise HubRefusedError(f"a page of 1 holds {len(one.ids)}, and leads to {one.following}", hint=_HINT)
        beyond = "and there are more" if whole.following else "which are all"
        return Seen(f"it does; without a limit a page holds {len(whole.ids)}, {beyond}")

    def list_sources(self, author: str) -> Seen:
        """List an author's models, and choose one to read."""
        if not author:
            raise NotTriedError("watch.authors is empty")
        found = self.hub.sources(author)
        self._model = next((one.repo_id for one in found if one.usable and not one.gated and not one.private), "")
        return Seen(f"{len(found)}, {sum(one.usable for one in found)} of them usable")

    def read_release(self) -> Seen:
        """Read a model as planning does."""
        if not self._model:
            raise NotTriedError("no usable model of the author is listed")
        release = self.hub.release(self._model)
        return Seen(f"{release.label}, {len(release.files)} files")

    def list_publications(self) -> Seen:
        """List the namespace that is published in."""
        found = self.hub.namespace(self.namespace)
        return Seen(f"{len(found.shelved)} that phi-bot made, {len(found.foreign)} others")

    def look_for_leftovers(self) -> Seen:
        """Look for what an earlier run left."""
        found = scratch.leftovers(self.hub, self.namespace)
        if not found:
            return Seen("nothing")
        places = ", ".join(map(self.scratch.place, found))
        return Seen(
            f"left: {', '.join(found)}",
            advice=f"A killed run left them, or one is running now. If none is, remove them by hand: {places}.",
        )

    def make_repo(self) -> Seen:
        """Make the first private repo."""
        repo_id = self.scratch.make()
        if not scratch.is_private(self.hub, repo_id):
            raise HubRefusedError(f"{repo_id} is public, or not there", hint=_HINT)
        return Seen(repo_id)

    def first_commit(self) -> Seen:
        """Commit small files, on what a new repo holds."""
        files = {"README.md": _CARD, "config.json": b'{"made_by": "phi-bot doctor"}\n'}
        parent = self._files(self.scratch.repo())[0]
        self._head = self._commit(files, parent, "First commit")
        self._sent |= files
        return Seen(f"commit {self._head[:12]}")

    def upload(self) -> Seen:
        """Send a large file as the bot does: by Xet, where the library has that."""
        return self._send_large(LARGE_FILE, "Xet" if scratch.uses_xet() else "LFS")

    def upload_past_xet(self) -> Seen:
        """Send another one by LFS, where the first one went by Xet."""
        if not scratch.uses_xet():
            raise NotTriedError("Xet is not used here: the file before went up by LFS")
        with scratch.without_xet():
            return self._send_large("lfs.bin", "LFS")

    def _send_large(self, path: str, by: str) -> Seen:
        content = secrets.token_bytes(LARGE_BYTES)
        head = self._files(self.scratch.repo())[0]
        self._head = self._commit({path: content}, head, f"Upload by {by}")
        file = self._file(path)
        if not file.is_lfs or file.size != len(content):
            raise HubRefusedError(f"{path} is listed as {file.size} bytes, {file.digest}", hint=_HINT)
        self._sent[path] = content
        return Seen(f"by {by}: {file.size} bytes, {file.digest[:19]}…")

    def download(self) -> Seen:
        """Read all files back."""
        commit, files = self._files(self.scratch.repo())
        for path, content in self._sent.items():
            if self.hub.read(self.scratch.repo(), commit, files[path]) != content:
                raise AlteredDownloadError(f"{path} holds other bytes than were sent", hint=_HINT)
        return Seen(f"{len(self._sent)} files, all equal")

    def download_part(self) -> Seen:
        """Read the beginning of the large file."""
        found = scratch.read_part(self.hub, self.scratch.repo(), self._head, self._file(LARGE_FILE), PART_BYTES)
        if found != self._sent[LARGE_FILE][:PART_BYTES]:
            raise AlteredDownloadError("the part holds other bytes than were sent", hint=_HINT)
        return Seen(f"{len(found)} bytes, all equal")

    def commit_on_stale_parent(self) -> Seen:
        """Have a commit refused, as the second of two bots has."""
        repo_id = self.scratch.repo()
        stale = self._files(repo_id)[0]
        self._head = self._commit({"notes.txt": b"one\n"}, stale, "One more")
        try:
            self._commit({"stale.txt": b"two\n"}, stale, "Too late")
        except ConflictError as error:
            if not scratch.is_stale(error):
                raise
        else:
            raise HubRefusedError("the commit was made", hint=_HINT)
        if self._files(repo_id)[0] != self._head:
            raise HubRefusedError("it was refused, and main moved all the same", hint=_HINT)
        return Seen("refused with status 412")

    def copy_between_repos(self) -> Seen:
        """Have the Hub copy the large file into a new repo, as promoting does."""
        target, file = self.scratch.repo("-copy"), self._file(LARGE_FILE)
        self.scratch.announce(target, "model")
        copied = HubFile(repo_id=self.scratch.repo(), commit=self._head, file=file)
        self._commit({"copied.bin": copied}, None, "Copy", repo_id=target)
        found = self._files(target)[1].get("copied.bin")
        if found is None or (found.size, found.digest) != (file.size, file.digest):
            raise HubRefusedError("the copy is missing, or is another file", hint=_HINT)
        return Seen(f"{found.size} bytes, {found.digest[:19]}…")

    def keep_state(self) -> Seen:
        """Keep a memory in a private dataset repo, and read it back."""
        repo_id = self.scratch.repo("-state")
        self.scratch.announce(repo_id, "dataset")
        Store(hub=self.hub, repo_id=repo_id).pause("phi-bot doctor")
        store = Store(hub=self.hub, repo_id=repo_id)
        store.read()
        if store.paused != "phi-bot doctor" or store.memory != Memory():
            raise HubRefusedError(f"datasets/{repo_id} holds another memory than was written", hint=_HINT)
        return Seen(f"datasets/{repo_id}")

    def make_ref(self, call: Callable[[Hub, str, str], str], name: str) -> Seen:
        """Make a branch or a tag and remove it, by one of the two calls."""
        return Seen(f"{name} at {call(self.hub, self.scratch.repo(), name)[:12]}")

    def propose(self) -> Seen:
        """Open a pull request, and find it and its file."""
        repo_id = self.scratch.repo()
        self._pull = self._open("proposed.txt", "A pull request")
        if self._pull not in [pull.number for pull in self.hub.proposals(repo_id)]:
            raise HubRefusedError(f"pull request {self._pull} is not in the list", hint=_HINT)
        if "proposed.txt" not in self._files(repo_id, f"refs/pr/{self._pull}")[1]:
            raise HubRefusedError(f"refs/pr/{self._pull} lacks the file", hint=_HINT)
        return Seen(f"{repo_id} #{self._pull}")

    def merge(self) -> Seen:
        """Merge the pull request."""
        repo_id = self.scratch.repo()
        commit = self.hub.merge(repo_id, self._pull, commit=self._files(repo_id, f"refs/pr/{self._pull}")[0])
        if "proposed.txt" not in self._files(repo_id)[1]:
            raise HubRefusedError("it is merged, and its file is not on main", hint=_HINT)
        return Seen(f"commit {commit[:12]}")

    def close(self) -> Seen:
        """Open another pull request and close it."""
        number = self._open("unwanted.txt", "Another pull request")
        status = self.hub.close(self.scratch.repo(), number)
        if status != "closed":
            raise HubRefusedError(f"pull request {number} is {status}", hint=_HINT)
        return Seen(f"#{number} is closed")

    def make_collection(self) -> Seen:
        """Make a private collection."""
        self._slug = self.scratch.make_collection()
        return Seen(self._slug)

    def fill_collection(self) -> Seen:
        """Put the first repo into the collection and take it out."""
        item = scratch.fill_collection(self.hub, self._slug, self.scratch.repo())
        left = scratch.empty_collection(self.hub, self._slug, item)
        if left:
            raise HubRefusedError(f"{left} items are left in it", hint=_HINT)
        return Seen("added, and taken out")

    def list_jobs(self) -> Seen:
        """List the jobs of a digest that none has, and the machines."""
        payer = self.config.hf_jobs.namespace or self.namespace
        running, flavors = scratch.jobs_of(self.hub, payer, {jobs.DIGEST: "0"}), scratch.flavors(self.hub)
        return Seen(f"{running} of that digest in {payer}; {flavors} machines")

    def list_schedules(self) -> Seen:
        """List scheduled jobs and webhooks."""
        payer = self.config.hf_jobs.namespace or self.namespace
        schedules = scheduled.schedules(self.hub, payer, self.namespace)
        webhooks = scheduled.webhooks(self.hub, self.namespace)
        return Seen(f"{len(schedules)} and {len(webhooks)}")

    def exchange(self, repo: str) -> Seen:
        """Trade the identity of this workflow for a token of a repo."""
        if not os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
            raise NotTriedError("this is not a job of GitHub Actions with id-token: write")
        scratch.exchange(self.hub, repo)
        return Seen("a token was given")

    def remove(self) -> Seen:
        """Remove all that was made."""
        if not self.scratch.begun:
            raise NotTriedError("nothing was made")
        return Seen(self.scratch.remove() or "nothing was there")

    # ---- what they share -------------------------------------------------------------------------------------

    def _files(self, repo_id: str, revision: str | None = None) -> tuple[str, dict[str, SourceFile]]:
        found = self.hub.files(repo_id, revision)
        if found is None:
            raise HubRefusedError(f"{repo_id} is not there", hint=_HINT)
        return found

    def _file(self, path: str) -> SourceFile:
        file = self._files(self.scratch.repo())[1].get(path)
        if file is None:
            raise HubRefusedError(f"{path} is not in the list of the repo", hint=_HINT)
        return file

    def _commit(
        self, files: Mapping[str, Content], parent: str | None, message: str, *, repo_id: str | None = None
    ) -> str:
        with Silent().task(message) as task:
            return self.hub.commit(
                repo_id or self.scratch.repo(), files=files, parent=parent, message=message, private=True, task=task
            )

    def _open(self, path: str, title: str) -> int:
        repo_id = self.scratch.repo()
        with Silent().task(title) as task:
            return self.hub.propose(
                repo_id,
                files={path: b"one line\n"},
                parent=self._files(repo_id)[0],
                title=title,
                description="By phi-bot doctor.",
                task=task,
            )


_CARD = b"""---
license: apache-2.0
tags: [phi-bot]
---
`phi-bot doctor --live` made this repo, and removes it when it ends. If it is still here, it can be deleted.
"""


def _role(account: Json, namespace: str) -> str:
    """Return in words what kind of token it is, as far as the Hub says so."""
    auth = account.get("auth")
    token = auth.get("accessToken") if isinstance(auth, dict) else None
    role = token.get("role") if isinstance(token, dict) else None
    if role == "fineGrained":
        return f"a fine-grained token: {', '.join(permissions(account, namespace))}"
    return f"a token that may {role}" if isinstance(role, str) else "a token of a kind that the Hub does not tell"
