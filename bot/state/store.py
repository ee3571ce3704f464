"""Remember: the bot's memory, in a private dataset repo beside what it publishes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from bot.config import Config
from bot.errors import ConflictError, RecordError, TokenError, UnknownModelError
from bot.hub.client import Hub
from bot.printable import json_text
from bot.progress import Silent
from bot.state.memory import Memory

MEMORY_FILE, PAUSE_FILE = "memory.json", "PAUSED"

_ROUNDS = 8  # several bots that write at the same moment take turns; each round, one of them gets through

_CARD = b"""---
license: apache-2.0
tags: [phi-bot]
---
What a phi-bot remembers between its runs: `memory.json` says which models it has seen, and what failed and when it is
tried again. A file `PAUSED` stops the bot on every machine (`phi-bot pause`, `phi-bot resume`).

It can be deleted: the bot then looks at every model anew and tries again what had failed. What is published is not
remembered here; the publications say it themselves.
"""


@dataclass(kw_only=True)
class Store:
    """The memory as it was read, and how to change it. ``paused`` says why the bot is to begin nothing, or is None."""

    hub: Hub = field(repr=False)
    repo_id: str
    memory: Memory = field(default_factory=Memory)
    paused: str | None = None
    _head: str | None = None

    def read(self) -> None:
        """Read what is there now. A repo that is not there yet, or not for this token, is an empty memory.

        Raises RecordError for a memory that cannot be read.
        """
        try:
            found = self.hub.read_files(self.repo_id, (MEMORY_FILE, PAUSE_FILE), repo_type="dataset")
        except (TokenError, UnknownModelError):
            found = None
        files, self._head = found or ({}, None)
        self.paused = files[PAUSE_FILE].decode("utf-8", "replace").strip() if PAUSE_FILE in files else None
        self.memory = self._parsed(files[MEMORY_FILE]) if MEMORY_FILE in files else Memory()

    def update(self, change: Callable[[Memory], Memory], message: str) -> None:
        """Change the memory on the Hub. Where another bot did so at the same moment, change what it left.

        ``change`` may be called several times. Raises ConflictError where the others never stop, and what a commit
        raises.
        """
        for left in reversed(range(_ROUNDS)):
            changed = change(self.memory)
            if changed == self.memory:
                return
            try:
                self._commit(message, files={MEMORY_FILE: _encoded(changed)})
            except ConflictError:
                if not left:
                    raise
                self.read()
            else:
                self.memory = changed
                return

    def pause(self, why: str) -> None:
        """Stop every bot that uses this memory, until ``resume``."""
        self._commit("Pause", files={PAUSE_FILE: f"{why}\n".encode()})
        self.paused = why

    def resume(self) -> None:
        """Let the bots go on."""
        if self.paused is not None:
            self._commit("Resume", delete=(PAUSE_FILE,))
            self.paused = None

    def _commit(
        self, message: str, *, files: Mapping[str, bytes] = MappingProxyType({}), delete: Sequence[str] = ()
    ) -> None:
        with Silent().task(message) as task:
            self._head = self.hub.commit(
                self.repo_id,
                files={"README.md": _CARD, **files},
                delete=delete,
                parent=self._head,
                message=message,
                private=True,
                task=task,
                repo_type="dataset",
            )

    def _parsed(self, content: bytes) -> Memory:
        try:
            return Memory.from_json(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise RecordError(
                f"{MEMORY_FILE} of {self.repo_id} {error}",
                hint="Was it written by another version of phi-bot, or by hand? Fix it, or delete the file.",
            ) from error


def store_of(hub: Hub, namespace: str, config: Config) -> Store:
    """Return the memory of the bot that publishes in a namespace, as it is now. Raises what ``Store.read`` raises."""
    store = Store(hub=hub, repo_id=f"{namespace}/{config.publish.state}")
    store.read()
    return store


def _encoded(memory: Memory) -> bytes:
    return f"{json_text(memory.to_json(), indent=1)}\n".encode()
