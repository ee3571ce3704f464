"""EarlyUpload: large files of proven artifacts go to the Hub while the rest is still being built and verified.

That publishes nothing: files that no commit names are seen by nobody. The publishing step finds them there afterwards.
"""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from bot.errors import PhiBotError
from bot.hub.client import Hub
from bot.printable import duration, printable, size
from bot.progress import Display
from bot.records.artifacts import Artifact

LARGE_BYTES = 10_000_000  #: smaller files go with the commit


class EarlyUpload:
    """Uploads in a thread of its own, one artifact after the other, until the block is left.

    ``place`` returns the repo that an artifact belongs in, whether that would be private, and its files by their paths
    there; ``check`` raises a PhiBotError where it will not be published there. A failure is told, and left to the
    publishing step, which knows what to do about it. A bug of ours is raised again when the block is left.
    """

    def __init__(
        self,
        hub: Hub,
        place: "Callable[[Artifact], Placed]",
        display: Display,
        check: Callable[[str, Artifact], None] = lambda _repo_id, _artifact: None,
    ) -> None:
        self._hub, self._place, self._display, self._check = hub, place, display, check
        self._waiting: SimpleQueue[Artifact | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)
        self._bug: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._waiting.put(None)
        if kind is None:  # who is interrupted does not wait for an upload
            self._thread.join()
            if self._bug is not None:
                raise self._bug

    def offer(self, artifact: Artifact) -> None:
        """Upload what is large of an artifact as soon as it has its turn."""
        self._waiting.put(artifact)

    def _work(self) -> None:
        while (artifact := self._waiting.get()) is not None:
            name = artifact.build.variant.name
            try:
                self._upload(artifact)
            except PhiBotError as problem:
                self._display.say(f"{name} was not uploaded ahead: {problem.message}")
            except OSError as problem:  # a file that is gone, or cannot be read
                self._display.say(f"{name} was not uploaded ahead: {printable(str(problem))}")
            except Exception as error:  # noqa: BLE001 - raised again when the block is left
                self._bug = self._bug or error

    def _upload(self, artifact: Artifact) -> None:
        started = time.monotonic()
        repo_id, private, files = self._place(artifact)
        large = {path: f for path, f in files.items() if f.stat().st_size >= LARGE_BYTES}
        if not large:
            return
        total = sum(f.stat().st_size for f in large.values())
        self._check(repo_id, artifact)
        self._hub.upload_ahead(repo_id, large, private=private)
        taken = duration(time.monotonic() - started)
        self._display.say(f"Uploaded {artifact.build.variant.name} ahead: {size(total)} in {taken}")


Placed = tuple[str, bool, Mapping[str, Path]]
