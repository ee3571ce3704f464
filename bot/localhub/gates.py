"""Who passed the gate of a repo, who asked, and who was turned away."""

import hashlib
import secrets
import time
from dataclasses import replace

from bot.localhub.settings import AccessRequest, AccessStatus, Settings


def requests_of(settings: Settings) -> tuple[AccessRequest, ...]:
    """Return all requests, whoever made them: the owner who let a user in, or the user."""
    return (*(_let_in(user, settings.created) for user in settings.access), *settings.requests)


def of_user(settings: Settings, user: str) -> AccessRequest | None:
    """Return a user's request, or None."""
    return next((r for r in requests_of(settings) if r.user.lower() == user.lower()), None)


def passed(settings: Settings, user: str) -> bool:
    """Say whether a user may read what is behind the gate."""
    found = of_user(settings, user)
    return found is not None and found.status == "accepted"


def decided(settings: Settings, user: str, status: AccessStatus, *, reason: str | None = None) -> Settings:
    """Return settings in which a user's request has a status from now on; the user need not have asked."""
    old = of_user(settings, user)
    kept = old or AccessRequest(id=secrets.token_hex(12), user=user, status=status, changed=0)
    new = replace(kept, status=status, changed=int(time.time()), reason=reason)
    return replace(settings, access=(), requests=(*(r for r in requests_of(settings) if r.id != kept.id), new))


def _let_in(user: str, when: int) -> AccessRequest:
    """Return the request of a user whom an earlier version let in, which kept the name alone."""
    name = hashlib.sha256(user.encode()).hexdigest()[:24]
    return AccessRequest(id=name, user=user, status="accepted", changed=when)
