"""Jobs as the embedded Hub keeps them: what is to be run, and how far it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

from bot.localhub.hardware import FLAVORS
from bot.localhub.refused import bad_request
from bot.records.artifacts import Record

Stage = Literal["SCHEDULING", "RUNNING", "COMPLETED", "CANCELED", "ERROR"]
STAGES: tuple[Stage, ...] = ("SCHEDULING", "RUNNING", "COMPLETED", "CANCELED", "ERROR")
OVER = frozenset({"COMPLETED", "CANCELED", "ERROR"})

_USUAL_SECONDS = 30 * 60  # the real Hub's limit for a job that names none
_MOST_ATTEMPTS = 10
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9._-]{0,100}", re.ASCII)
_KNOWN = frozenset(
    {"arguments", "attempts", "command", "dockerImage", "environment", "flavor", "labels", "secrets", "spaceId"}
    | {"timeoutSeconds"}
)


@dataclass(frozen=True, kw_only=True)
class JobSpec(Record):
    """The specification of a job, its ``timeout`` in seconds. ``secrets`` are names: values are never written down."""

    image: str
    is_space: bool
    command: tuple[str, ...]
    environment: dict[str, str]
    secrets: tuple[str, ...]
    flavor: str
    timeout: int
    attempts: int
    labels: dict[str, str]

    def to_answer(self) -> dict[str, Any]:
        """Return what the client reads of it."""
        return {
            "spaceId" if self.is_space else "dockerImage": self.image,
            "command": list(self.command),
            "arguments": [],
            "environment": self.environment,
            "secrets": list(self.secrets),
            "flavor": self.flavor,
            "timeout": self.timeout,
            "labels": self.labels,
            "retry": self.attempts - 1,
        }


@dataclass(frozen=True, kw_only=True)
class Initiator(Record):
    """Who or what started a job."""

    type: Literal["user", "scheduled-job", "duplicated-job"]
    id: str
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobState(Record):
    """A job and how far it is. Times are in seconds since 1970."""

    id: str
    namespace: str
    spec: JobSpec
    initiator: Initiator
    created: float
    started: float | None = None
    finished: float | None = None
    stage: Stage = "SCHEDULING"
    message: str | None = None

    def to_answer(self, now: float) -> dict[str, Any]:
        """Return what the client reads of it."""
        until = self.finished or now
        answer = {
            "id": self.id,
            "createdAt": iso_time(self.created),
            "startedAt": self.started and iso_time(self.started),
            "finishedAt": self.finished and iso_time(self.finished),
            "status": {"stage": self.stage, "message": self.message},
            "durations": {
                "schedulingSecs": self.started and int(self.started - self.created),
                "runningSecs": self.started and int(until - self.started),
                "totalSecs": int(until - self.created),
            },
            "owner": owner(self.namespace),
            "initiator": self.initiator.to_json(),
        }
        return answer | self.spec.to_answer()


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """A job that is asked for: what it runs, and the values of its secrets, which stay in memory."""

    spec: JobSpec
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_order(value: Mapping[str, Any]) -> SubmittedJob:
    """Read what a caller wants to be run; refuses what the embedded Hub cannot do rather than leave it out."""
    if unknown := set(value) - _KNOWN:
        raise bad_request(f"the embedded Hub's jobs have no {', '.join(sorted(unknown))}")
    command = (*_texts(value.get("command"), "command"), *_texts(value.get("arguments", []), "arguments"))
    image, space = value.get("dockerImage"), value.get("spaceId")
    if not command:
        raise bad_request("'command' is empty")
    if not isinstance(image or space, str) or (image and space):
        raise bad_request("a job has either a 'dockerImage' or a 'spaceId'")
    secrets = _variables(value.get("secrets", {}), "secrets")
    flavor = value.get("flavor", "cpu-basic")
    if flavor not in {f["name"] for f in FLAVORS}:
        raise bad_request("'flavor' is none of those that /api/jobs/hardware lists")
    spec = JobSpec(
        image=str(image or space),
        is_space=not image,
        command=command,
        environment=_variables(value.get("environment", {}), "environment"),
        secrets=tuple(sorted(secrets)),
        flavor=flavor,
        timeout=_count(value.get("timeoutSeconds", _USUAL_SECONDS), "timeoutSeconds", 7 * 24 * 3600),
        attempts=_count(value.get("attempts", 1), "attempts", _MOST_ATTEMPTS),
        labels=read_labels(value.get("labels", {})),
    )
    return SubmittedJob(spec=spec, secrets=secrets)


def read_labels(value: Any) -> dict[str, str]:
    """Read the labels of a job, or refuse them."""
    if not isinstance(value, dict) or not all(
        isinstance(v, str) and k and _LABEL.fullmatch(k) and _LABEL.fullmatch(v) for k, v in value.items()
    ):
        raise bad_request("'labels' are names and values of letters, digits, '-', '_' and '.', at most 100 each")
    return dict(value)


def read_secrets(value: Any) -> dict[str, str]:
    """Read secrets by name, or refuse them."""
    return _variables(value, "secrets")


def owner(namespace: str) -> dict[str, str]:
    """Return a user or an organisation as the client reads it: the embedded Hub does not know which it is."""
    return {"id": sha256(namespace.encode()).hexdigest()[:24], "name": namespace, "type": "user"}


def iso_time(seconds: float) -> str:
    """Return a time as the client reads it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _texts(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and _is_passable(v) for v in value):
        raise bad_request(f"{key!r} is not a list of texts")
    return tuple(value)


def _variables(value: Any, key: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        _VARIABLE.fullmatch(k) and isinstance(v, str) and _is_passable(v) for k, v in value.items()
    ):
        raise bad_request(f"{key!r} are texts by the names of environment variables")
    return dict(value)


def _is_passable(text: str) -> bool:
    """Say whether a process can be given a text."""
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _count(value: Any, key: str, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise bad_request(f"{key!r} is not a number from 1 to {most}")
    return value
