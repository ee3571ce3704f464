"""The settings of a repo: who sees it, who passed its gate, and whose tokens may write to it."""

from dataclasses import dataclass
from typing import Literal

from bot.records.artifacts import Record

AccessStatus = Literal["accepted", "pending", "rejected"]


@dataclass(frozen=True, kw_only=True)
class Publisher(Record):
    """Whose tokens may be traded for one of a repo: those of an issuer that make exactly these ``claims``, and more."""

    issuer: str
    claims: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class AccessRequest(Record):
    """A user before the gate of a repo, since ``changed`` (seconds since 1970) in this ``status``."""

    id: str
    user: str
    status: AccessStatus
    changed: int
    reason: str | None = None  # of a rejection


@dataclass(frozen=True, kw_only=True)
class Settings(Record):
    """Settings of a repo, which change apart from its files; times are in seconds.

    ``access`` lists those who passed the gate before ``requests`` were kept (see ``bot.localhub.gates``).
    """

    private: bool
    created: int
    gated: Literal["auto", "manual"] | None = None
    access: tuple[str, ...] = ()
    publishers: tuple[Publisher, ...] = ()
    requests: tuple[AccessRequest, ...] = ()
