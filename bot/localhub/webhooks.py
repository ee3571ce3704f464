"""Webhooks: jobs that start when a watched repo changes. Nothing is ever sent to an address."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from bot.localhub.durable import read_json
from bot.localhub.job_records import Initiator, JobSpec, SubmittedJob
from bot.localhub.jobs import Jobs
from bot.localhub.refused import RefusedError
from bot.localhub.repo import LocalRepo
from bot.localhub.tokens import Grant
from bot.records.artifacts import Record

log = logging.getLogger(__name__)

PAYLOAD_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class WatchedTarget(Record):
    """The target of a webhook: a repo, or all repos of a user or an organisation."""

    type: Literal["dataset", "model", "org", "user"]
    name: str

    def covers(self, repo: LocalRepo) -> bool:
        """Say whether a repo is watched."""
        if self.type in ("org", "user"):
            return self.name == repo.namespace
        return (self.type, self.name) == (repo.type, repo.id)


@dataclass(frozen=True, kw_only=True)
class StoredWebhook(Record):
    """A job that changes start. ``grant`` is its owner's: changes of repos that the owner may not see start nothing."""

    id: str
    grant: Grant
    namespace: str  # that runs the job, and pays
    source: str  # the job that it was made from
    spec: JobSpec
    watched: tuple[WatchedTarget, ...]
    domains: tuple[Literal["repo", "discussion"], ...]
    disabled: bool = False

    def to_answer(self) -> dict[str, Any]:
        """Return what the client reads of it."""
        return {
            "id": self.id,
            "url": None,
            "job": self.spec.to_answer(),
            "watched": [w.to_json() for w in self.watched],
            "domains": list(self.domains),
            "disabled": self.disabled,
        }


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The secrets of a webhook's job; ``word`` proves to it where the payload comes from."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    word: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class RepoEvent:
    """An event of a repo: ``scope`` is ``repo`` or ``repo.content``; ``refs`` are names with commits before and
    after."""

    repo: LocalRepo
    private: bool
    action: Literal["create", "delete", "update"]
    scope: Literal["repo", "repo.content"]
    head: str | None
    refs: tuple[tuple[str, str | None, str | None], ...] = ()


class Webhooks:
    """The webhooks of a Hub's folder. Their secrets are known to the process alone that was given them."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._folder = jobs.hub.folder / "webhooks"
        self._secrets: dict[str, Secrets] = {}

    def make(self, webhook: StoredWebhook, secrets: Secrets) -> StoredWebhook:
        """Keep a new webhook."""
        self.jobs.require()
        made = replace(webhook, id=token_hex(12))
        self.save(made, secrets)
        return made

    def save(self, webhook: StoredWebhook, secrets: Secrets | None = None) -> None:
        """Keep a webhook as it is now; without ``secrets`` it keeps those that it has."""
        if secrets is not None:
            self._secrets[webhook.id] = secrets
        self.jobs.hub.scratch.write_json(self._file(webhook.id), webhook.to_json(), mode=0o600)

    def secrets_of(self, webhook: StoredWebhook) -> Secrets:
        """Return what is known of a webhook's secrets."""
        return self._secrets.get(webhook.id, Secrets())

    def all(self) -> list[StoredWebhook]:
        """Return the webhooks of all accounts."""
        found = (self.find(f.stem) for f in sorted(self._folder.glob("*.json")))
        return [w for w in found if w is not None]

    def find(self, webhook_id: str) -> StoredWebhook | None:
        """Return a webhook, or None where there is none."""
        if not webhook_id.isalnum():
            return None
        try:
            return StoredWebhook.from_json(read_json(self._file(webhook_id)))
        except FileNotFoundError:
            return None

    def delete(self, webhook: StoredWebhook) -> None:
        """Forget a webhook."""
        self._file(webhook.id).unlink(missing_ok=True)
        self._secrets.pop(webhook.id, None)

    def tell(self, change: RepoEvent, base: str) -> None:
        """Start the jobs of the webhooks that watch a repo. ``base`` is this Hub's address."""
        for webhook in self.all() if self.jobs.runs else ():
            seen = not change.private or webhook.grant.may_read(change.repo.namespace, change.repo.path)
            watched = "repo" in webhook.domains and any(w.covers(change.repo) for w in webhook.watched)
            if seen and watched and not webhook.disabled:
                try:
                    self._fire(webhook, payload(change, webhook, base))
                except RefusedError as error:  # the change itself is done
                    log.warning("webhook %s started nothing: %s", webhook.id, error.message)

    def _fire(self, webhook: StoredWebhook, told: dict[str, Any]) -> None:
        secrets = self.secrets_of(webhook)
        environment = webhook.spec.environment | {
            "WEBHOOK_PAYLOAD": json.dumps(told),
            "WEBHOOK_REPO_ID": told["repo"]["name"],
            "WEBHOOK_REPO_TYPE": told["repo"]["type"],
        }
        values = dict(secrets.values) | ({"WEBHOOK_SECRET": secrets.word} if secrets.word else {})
        spec = replace(webhook.spec, environment=environment, secrets=tuple(sorted(values)))
        by = Initiator(type="duplicated-job", id=webhook.source)
        self.jobs.start(webhook.namespace, SubmittedJob(spec=spec, secrets=values), by)

    def _file(self, webhook_id: str) -> Path:
        return self._folder / f"{webhook_id}.json"


def payload(change: RepoEvent, webhook: StoredWebhook, base: str) -> dict[str, Any]:
    """Return what the real Hub would tell of a change."""
    repo = change.repo
    told: dict[str, Any] = {
        "event": {"action": change.action, "scope": change.scope},
        "repo": {
            "type": repo.type,
            "name": repo.id,
            "id": f"{repo.type}:{repo.id}",
            "owner": {"id": repo.namespace},
            "private": change.private,
            "url": {"web": f"{base}/{repo.path}", "api": f"{base}/api/{repo.type}s/{repo.id}"},
        },
        "webhook": {"id": webhook.id, "version": PAYLOAD_VERSION},
    }
    if change.head:
        told["repo"]["headSha"] = change.head
    if change.refs:
        told["updatedRefs"] = [{"ref": ref, "oldSha": old, "newSha": new} for ref, old, new in change.refs]
    return told
