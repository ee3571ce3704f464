"""Jobs that the Hub starts by itself: one on a schedule, and one when a repo of a watched author changes.

Each is found again by its labels, so that installing one twice changes it.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.errors import HubRefusedError
from bot.hub.client import Hub
from bot.hub.errors import hub_errors
from bot.hub.jobs import JobOrder, label, start
from bot.hub.retry import exactly_once
from bot.records.artifacts import Record

if TYPE_CHECKING:
    from huggingface_hub import WebhookInfo
    from huggingface_hub._jobs_api import JobSpec, ScheduledJobInfo

PURPOSE, PUBLISHES = "phi-bot-purpose", "phi-bot-publishes-in"  # the labels that they are found by


@dataclass(frozen=True, kw_only=True)
class Schedule(Record):
    """A job that starts on a schedule. ``next_run`` is in UTC, ISO 8601; None while it is suspended."""

    id: str
    schedule: str
    flavor: str
    next_run: str | None
    suspended: bool


@dataclass(frozen=True, kw_only=True)
class Webhook(Record):
    """A job that starts when something changes in the repos of ``authors``."""

    id: str
    authors: tuple[str, ...]
    flavor: str
    disabled: bool


def labels(purpose: str, namespace: str) -> dict[str, str]:
    """Return the labels of what publishes in a namespace."""
    return {PURPOSE: purpose, PUBLISHES: label(namespace)}


def schedules(hub: Hub, payer: str, namespace: str) -> tuple[Schedule, ...]:
    """Return the scheduled jobs of phi-bot that publish in a namespace."""
    with hub_errors(hub.endpoint, payer):
        found = hub.api.list_scheduled_jobs(namespace=payer, labels=labels("schedule", namespace))
        return tuple(_schedule(info) for info in found)


def schedule(hub: Hub, payer: str, order: JobOrder, every: str, *, old: Sequence[Schedule]) -> Schedule:
    """Have a job started on a schedule, in place of ``old`` ones, which are removed when the new one exists."""
    arguments = order.to_arguments()
    known = {s.id for s in old}
    with hub_errors(hub.endpoint, payer):

        def landed() -> "ScheduledJobInfo | None":
            found = hub.api.list_scheduled_jobs(namespace=payer, labels=dict(order.labels))
            return next((s for s in found if s.id not in known), None)

        made = exactly_once(lambda: hub.api.create_scheduled_job(namespace=payer, schedule=every, **arguments), landed)
        unschedule(hub, payer, old)
        return _schedule(made)


def unschedule(hub: Hub, payer: str, old: Sequence[Schedule]) -> None:
    """Remove scheduled jobs. Jobs that they started go on."""
    with hub_errors(hub.endpoint, payer):
        for one in old:
            hub.api.delete_scheduled_job(scheduled_job_id=one.id, namespace=payer)


def webhooks(hub: Hub, namespace: str) -> tuple[Webhook, ...]:
    """Return the webhooks of this account that start a phi-bot which publishes in a namespace."""
    with hub_errors(hub.endpoint):
        return tuple(_webhook(w, w.job) for w in hub.api.list_webhooks() if w.job and _is_of(w.job, namespace))


def watch(hub: Hub, payer: str, order: JobOrder, authors: Sequence[str], *, old: Sequence[Webhook]) -> Webhook:
    """Have a job started when a repo of the authors changes; of ``old`` webhooks the first becomes this one.

    The Hub makes a webhook's job from one that ran, so it is run once now.
    """
    source, _ = start(hub, payer, order)
    watched = [{"type": "org", "name": author} for author in authors]
    given = {"job_id": source.id, "watched": watched, "domains": ["repo"], "secrets": dict(order.secrets)}
    known = {w.id for w in old}
    with hub_errors(hub.endpoint, payer):

        def landed() -> "WebhookInfo | None":
            found = (w for w in hub.api.list_webhooks() if w.job and _is_of(w.job, order.labels[PUBLISHES]))
            return next((w for w in found if w.id not in known), None)

        if old:
            made = hub.api.update_webhook(old[0].id, **given)  # type: ignore[arg-type]
        else:
            made = exactly_once(lambda: hub.api.create_webhook(**given), landed)  # type: ignore[arg-type]
        unwatch(hub, old[1:])
        if made.job is None:
            raise HubRefusedError(f"{hub.endpoint} made a webhook that starts no job", hint="Remove it by hand.")
        return _webhook(made, made.job)


def unwatch(hub: Hub, old: Sequence[Webhook]) -> None:
    """Remove webhooks."""
    with hub_errors(hub.endpoint):
        for one in old:
            hub.api.delete_webhook(one.id)


def _is_of(job: "JobSpec", namespace: str) -> bool:
    return labels("webhook", namespace).items() <= (job.labels or {}).items()


def _schedule(info: "ScheduledJobInfo") -> Schedule:
    due: dt.datetime | None = info.status.next_job_run_at
    return Schedule(
        id=info.id,
        schedule=info.schedule or "",
        flavor=_flavor(info.job_spec),
        next_run=due.astimezone(dt.UTC).isoformat(timespec="minutes") if due else None,
        suspended=bool(info.suspend),
    )


def _webhook(info: "WebhookInfo", job: "JobSpec") -> Webhook:
    authors = tuple(w.name for w in info.watched)
    return Webhook(id=info.id, authors=authors, flavor=_flavor(job), disabled=info.disabled)


def _flavor(job: "JobSpec") -> str:
    return str(getattr(job.flavor, "value", job.flavor or ""))
