"""The context of a run: its settings, the working folder, the Hub, and where progress is shown."""

from dataclasses import dataclass, replace

from bot.config import Config
from bot.hub.client import Hub
from bot.progress import Display
from bot.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Context:
    """The context of a run."""

    config: Config
    workspace: Workspace
    hub: Hub
    display: Display

    @property
    def threads(self) -> int:
        """The number of processor threads that a worker may use."""
        return self.config.build.threads

    def spelled(self, owner: str | None = None) -> "Context":
        """Return the same with the namespace to publish in as the Hub spells it: ``owner`` where that is known.

        Otherwise the Hub is asked. Raises what ``hub.spelling`` does.
        """
        publish = self.config.publish
        if not publish.namespace:
            return self
        name = owner or self.hub.spelling(publish.namespace)
        if name == publish.namespace:
            return self
        return replace(self, config=replace(self.config, publish=replace(publish, namespace=name)))
