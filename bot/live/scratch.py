"""The repos and collections of one run of the doctor: their names, and their end."""

import secrets
from dataclasses import dataclass, field

from bot.errors import HubRefusedError, PhiBotError
from bot.hub import scratch
from bot.hub.client import Hub
from bot.hub.repo import RepoType

_PLACES = {"": "/settings", "datasets/": "/settings", "collections/": ""}


@dataclass(kw_only=True)
class Scratch:
    """What a run made in a namespace, and has to remove.

    Names end in 64 random bits, and before one is made the Hub is asked that it is not there. So whatever has such a
    name at the end was made by this run, also where the answer to making it was lost.
    """

    hub: Hub = field(repr=False)
    namespace: str
    name: str = field(default_factory=lambda: f"{scratch.PREFIX}{secrets.token_hex(8)}")
    begun: list[str] = field(default_factory=list)  #: all that may be there: ``owner/name``, ``datasets/…``, …

    def repo(self, ending: str = "") -> str:
        """Return the id of a repo of this run."""
        return f"{self.namespace}/{self.name}{ending}"

    def make(self, ending: str = "", repo_type: RepoType = "model") -> str:
        """Make a private repo; return its id. Raises HubRefusedError where one of that name was there before."""
        repo_id = self.repo(ending)
        self.announce(repo_id, repo_type)
        scratch.create(self.hub, repo_id, repo_type)
        return repo_id

    def announce(self, repo_id: str, repo_type: RepoType) -> None:
        """Note a repo that is about to be made. Raises HubRefusedError where one of that name is there already."""
        if scratch.is_private(self.hub, repo_id, repo_type) is not None:
            raise HubRefusedError(f"{repo_id} is there already", hint="Run the same command again: names are random.")
        self.begun.append(repo_id if repo_type == "model" else f"{repo_type}s/{repo_id}")

    def make_collection(self) -> str:
        """Make a private collection; return its slug."""
        self.begun.append(self._any_collection)
        slug = scratch.make_collection(self.hub, self.namespace, self.name)
        self.begun[self.begun.index(self._any_collection)] = f"collections/{slug}"
        return slug

    def remove(self) -> str:
        """Remove all that the run made; return what that was. Raises HubRefusedError that names what is left."""
        wanted = list(reversed(self.begun))
        left: dict[str, PhiBotError] = {}
        removed: list[str] = []
        for name in wanted:
            try:
                removed += self._remove(name)
            except PhiBotError as error:
                left[name] = error
        if left:
            places = ", ".join(map(self.place, left))
            raise HubRefusedError(
                f"not removed: {', '.join(left)} ({next(iter(left.values())).message})",
                hint=f"Remove what is left by hand: {places}.",
            )
        return ", ".join(removed)

    def place(self, name: str) -> str:
        """Return the address of a page on which a person removes something."""
        kind = next((kind for kind in ("datasets/", "collections/") if name.startswith(kind)), "")
        return f"{self.hub.endpoint}/{name}{_PLACES[kind]}"

    @property
    def _any_collection(self) -> str:
        return f"collections/{self.namespace}/{self.name}"  # its slug is not known until the Hub answers

    def _remove(self, name: str) -> list[str]:
        """Remove one thing; return its name, or nothing where it was never made."""
        if name == self._any_collection:
            begin = name.casefold()  # the Hub may spell the namespace, and the slug, in other letters
            found = [n for n in scratch.leftovers(self.hub, self.namespace) if n.casefold().startswith(begin)]
        else:
            found = [name]
        return [one for one in found if scratch.remove(self.hub, one)]
