"""GitHub, through PyGithub: no other room of the bot imports it."""

from bot.github.client import run_address
from bot.github.issues import Issues, ReleaseIssue, connect

__all__ = ["Issues", "ReleaseIssue", "connect", "run_address"]
