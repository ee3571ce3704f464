"""What the steps work with: the settings, the working folder, the Hub, and where progress is shown."""

from dataclasses import dataclass

from bot.config import Config
from bot.hub.client import Hub
from bot.progress import Display
from bot.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a run works with."""

    config: Config
    workspace: Workspace
    hub: Hub
    display: Display
