"""Downloads of models, as the Hub counts them: by the file that everybody needs who loads one."""

from collections import Counter
from threading import Lock

from bot.localhub.repo import LocalRepo

_COUNTED = frozenset({"config.json", "adapter_config.json"})


class Downloads:
    """The downloads of each repo since this process opened the folder. Safe to use from several threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, repo: LocalRepo, path: str) -> None:
        """Count a file that was sent, if it is one that stands for a download."""
        if path in _COUNTED:
            with self._lock:
                self._counts[repo.path] += 1

    def of(self, repo: LocalRepo) -> int:
        """Return how often a repo was downloaded."""
        return self._counts[repo.path]
