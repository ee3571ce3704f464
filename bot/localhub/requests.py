"""Count the requests that a server took, by kind, and the bytes of files that it sent, to show the cost of a caller."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock

NOWHERE = "(nowhere)"


class Requests:
    """Counts by kind: ``GET /api/models``, ``POST /api/models/{namespace}/{name}/commit/{revision}``.

    Requests that were refused before they came to an address are of the kind ``GET (nowhere)``. Safe to use from
    several threads.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._sent = 0
        self._lock = Lock()

    def add(self, kind: str) -> None:
        """Count one request."""
        with self._lock:
            self._counts[kind] += 1

    def add_sent(self, count: int) -> None:
        """Count bytes of a file that were sent."""
        with self._lock:
            self._sent += count

    def sent(self) -> int:
        """Return how many bytes of files were sent so far."""
        with self._lock:
            return self._sent

    def counts(self) -> Counter[str]:
        """Return how many there were of each kind so far; the difference of two of these is what came between."""
        with self._lock:
            return self._counts.copy()


def kind_of(method: str, pattern: str, found: Mapping[str, str]) -> str:
    """Return the kind of a request: its address, with names of repos and files left out."""
    return f"{method} {pattern.replace('{types}', found.get('types', ''))}"
