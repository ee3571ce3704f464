"""The embedded Hub: a folder served over loopback with the protocol that the Hub's own client speaks."""

from bot.localhub.check import check
from bot.localhub.limits import ServerLimits
from bot.localhub.server import RunningHub, serve, serve_forever
from bot.localhub.store import LocalHub, make_token, trust
from bot.localhub.tokens import Grant

__all__ = ["Grant", "LocalHub", "RunningHub", "ServerLimits", "check", "make_token", "serve", "serve_forever", "trust"]
