"""A source that streams: the bot fetches its tensors one by one, for it has the network and the token; this asks.

The files of such a source are there, with their headers and their full length, and holes where the weights are to be.
The worker says in which order it will read them, waits for each, and gives it back; the bot fetches ahead, and punches
the hole again behind. Events and answers, one JSON object a line:

    {"event": "order", "tensors": ["model.embed_tokens.weight", …]}     what comes next; replaces what was said before;
                                                                         with "more": true, another order will follow
    {"event": "need", "tensor": NAME}                                    I wait for this one
    {"event": "released", "tensor": NAME}                                its bytes may go
    {"have": NAME}                                                       the bot's answer to "need": it is there
    {"failed": MESSAGE}                                                  … or nothing more will come
"""

import threading
from collections.abc import Sequence

from bot.records.artifacts import Json
from bot.worker.harness import Reporter


class Feed:
    """The worker's end of a streamed source. Safe to use from several threads."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._changed = threading.Condition()
        self._users: dict[str, int] = {}
        self._there: set[str] = set()
        self._failed = ""
        report.on_answer = self._take

    def order(self, names: Sequence[str], *, more: bool = False) -> None:
        """Say which tensors will be read from now on, and in which order: the bot fetches ahead by it.

        ``more`` says that these are not all: what another worker is done with meanwhile may be wanted here still.
        """
        self._report.event(event="order", tensors=list(names), more=more)

    def need(self, name: str) -> None:
        """Return when a tensor's bytes are in its file. They stay until each ``need`` was met by a ``release``.

        Raises ConnectionError where the bot cannot fetch it; the bot knows why.
        """
        with self._changed:
            self._users[name] = self._users.get(name, 0) + 1
            if self._users[name] == 1:
                self._report.event(event="need", tensor=name)
            self._changed.wait_for(lambda: name in self._there or self._failed)
            if name not in self._there:
                raise ConnectionError(f"{name} does not come: {self._failed}")

    def release(self, name: str) -> None:
        """Give a tensor back. To read it again later, call ``need`` again."""
        with self._changed:
            self._users[name] -= 1
            if self._users[name]:
                return
            del self._users[name]
            self._there.discard(name)
            self._report.event(event="released", tensor=name)

    def _take(self, answer: dict[str, Json]) -> None:
        with self._changed:
            if "have" in answer:
                self._there.add(answer["have"])
            else:
                self._failed = answer["failed"]
            self._changed.notify_all()
