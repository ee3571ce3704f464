"""The embedded Hub: a folder served over loopback with the protocol that the Hub's own client speaks."""

from bot.hub.local.check import check
from bot.hub.local.limits import Limits
from bot.hub.local.server import RunningHub, serve, serve_forever
from bot.hub.local.store import LocalHub, make_token, trust
from bot.hub.local.tokens import Grant

__all__ = ["Grant", "Limits", "LocalHub", "RunningHub", "check", "make_token", "serve", "serve_forever", "trust"]
