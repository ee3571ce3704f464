"""Hugging Face Jobs: commands that run on machines of the Hub's.

A job is never started twice for the same work: each carries a digest of what it is to do as a label, and before one is
started, and before a request is sent again whose answer was lost, it is looked for.
"""

import datetime as dt
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bot.errors import PhiBotError
from bot.hub.client import Hub
from bot.hub.errors import hub_errors, no_token
from bot.hub.retry import exactly_once
from bot.hub.server_text import safe_line

if TYPE_CHECKING:
    from huggingface_hub import JobInfo

DIGEST = "phi-bot-digest"  # the label that says what a job is to do

_OVER = frozenset({"COMPLETED", "CANCELED", "ERROR", "DELETED"})
_LIVE = ["SCHEDULING", "RUNNING"]
_POLL_SECONDS = 5.0
_LONGEST_LABEL = 100


@dataclass(frozen=True, kw_only=True)
class JobOrder:
    """A command to run: in which image, on which flavor, for how many seconds at most.

    ``digest`` stands for what it is to do; two orders of the same digest are the same work. ``secrets`` become
    environment variables of the job that the Hub shows to nobody.
    """

    name: str
    digest: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    flavor: str
    seconds: int
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_arguments(self) -> dict[str, Any]:
        """Return what huggingface_hub takes."""
        return {
            "image": self.image,
            "command": list(self.command),
            "env": dict(self.environment),
            "secrets": dict(self.secrets),
            "flavor": self.flavor,
            "timeout": self.seconds,
            "labels": {"name": label(self.name), DIGEST: self.digest, **self.labels},
        }


@dataclass(frozen=True, kw_only=True)
class RemoteJob:
    """A job as it was when it was last looked at. ``message`` is the Hub's word on how it ended, or empty."""

    id: str
    namespace: str
    stage: str
    message: str
    url: str
    created: dt.datetime

    @property
    def is_over(self) -> bool:
        """Say whether it runs no more."""
        return self.stage in _OVER


def start(hub: Hub, namespace: str, order: JobOrder) -> tuple[RemoteJob, bool]:
    """Start a job, unless one with the same digest is running: then return that one, and False.

    Raises TokenError for a token that may run no jobs in the namespace, HubRefusedError and HubUnreachableError.
    """
    with hub_errors(hub.endpoint, namespace):
        known = {j.id: j for j in _labelled(hub, namespace, order.digest)}
        running = next((j for j in known.values() if j.stage in _LIVE), None)
        if running is not None:
            return running, False

        def send() -> RemoteJob:
            return _read(hub, namespace, hub.api.run_job(namespace=namespace, **order.to_arguments()))

        def landed() -> RemoteJob | None:
            return next((j for j in _labelled(hub, namespace, order.digest) if j.id not in known), None)

        return exactly_once(send, landed), True


def refresh(hub: Hub, job: RemoteJob) -> RemoteJob:
    """Return a job as it is now."""
    with hub_errors(hub.endpoint, job.url):
        return _read(hub, job.namespace, hub.api.inspect_job(job_id=job.id, namespace=job.namespace))


def wait(hub: Hub, job: RemoteJob) -> RemoteJob:
    """Return a job when it is over."""
    while not (job := refresh(hub, job)).is_over:
        time.sleep(_POLL_SECONDS)
    return job


def logs(hub: Hub, job: RemoteJob) -> Iterator[str]:
    """Yield the lines that a job prints, until it is over. They are the job's own words: make them printable.

    Where they cannot be read any more, they end: ``wait`` tells how the job ends.
    """
    try:
        with hub_errors(hub.endpoint, job.url):
            yield from hub.api.fetch_job_logs(job_id=job.id, namespace=job.namespace, follow=True)
    except PhiBotError:
        return


def token_of(hub: Hub) -> str:
    """Return the token that the client uses, to be given to a job as a secret. Raises TokenError without one."""
    from huggingface_hub import get_token

    token = get_token() if hub.api.token is None else hub.api.token
    if not isinstance(token, str) or not token:
        raise no_token(hub.endpoint)
    return token


def label(text: str) -> str:
    """Return a text as the value of a label: what the Hub does not take there becomes a dash."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:_LONGEST_LABEL]


def _labelled(hub: Hub, namespace: str, digest: str) -> list[RemoteJob]:
    found = hub.api.list_jobs(namespace=namespace, labels={DIGEST: digest})
    return [_read(hub, namespace, info) for info in found]


def _read(hub: Hub, namespace: str, info: "JobInfo") -> RemoteJob:
    return RemoteJob(
        id=info.id,
        namespace=namespace,
        stage=str(getattr(info.status.stage, "value", info.status.stage)),
        message=safe_line(info.status.message or ""),
        url=f"{hub.endpoint}/jobs/{namespace}/{info.id}",
        created=info.created_at or dt.datetime.now(dt.UTC),
    )
