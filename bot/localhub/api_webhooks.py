"""Webhooks over HTTP: each account sees its own."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any

from bot.localhub.access import caller, writer, writer_of
from bot.localhub.job_records import JobState, read_secrets
from bot.localhub.refused import RefusedError, bad_request
from bot.localhub.repo import LocalRepo
from bot.localhub.tokens import EVERY_NAMESPACE
from bot.localhub.web import Request, Response, json_response
from bot.localhub.webhooks import RepoEvent, Secrets, StoredWebhook, WatchedTarget
from bot.records.artifacts import MalformedRecordError

_DOMAINS = ("repo", "discussion")


def create(request: Request) -> Response:
    """Keep a job to be started by changes."""
    grant, wanted = writer(request), request.json()
    source = _source(request, wanted)
    if source is None:
        raise bad_request("'jobSourceId' is missing: the embedded Hub's webhooks start jobs, and send nothing")
    made = StoredWebhook(
        id="0",
        grant=grant,
        namespace=source.namespace,
        source=source.id,
        spec=source.spec,
        watched=_watched(wanted),
        domains=_domains(wanted.get("domains", list(_DOMAINS))),
    )
    made = request.automation.webhooks.make(made, _secrets(wanted, Secrets()))
    return _answer(made)


def list_webhooks(request: Request) -> Response:
    """List the caller's webhooks."""
    name = caller(request).name
    return json_response([w.to_answer() for w in request.automation.webhooks.all() if w.grant.name == name])


def show(request: Request, webhook_id: str) -> Response:
    """Tell what is known of a webhook."""
    return _answer(_own(request, webhook_id))


def update(request: Request, webhook_id: str) -> Response:
    """RepoEvent a webhook: what is not said stays as it is."""
    old, wanted = _own(request, webhook_id), request.json()
    writer(request)
    source = _source(request, wanted)
    new = old if source is None else replace(old, namespace=source.namespace, source=source.id, spec=source.spec)
    if wanted.get("watched"):  # the client sends an empty list where it was told nothing
        new = replace(new, watched=_watched(wanted))
    if "domains" in wanted:
        new = replace(new, domains=_domains(wanted["domains"]))
    request.automation.webhooks.save(new, _secrets(wanted, request.automation.webhooks.secrets_of(old)))
    return _answer(new)


def enable(request: Request, webhook_id: str) -> Response:
    """Let changes start the job again."""
    return _switch(request, webhook_id, disabled=False)


def disable(request: Request, webhook_id: str) -> Response:
    """Let changes start nothing."""
    return _switch(request, webhook_id, disabled=True)


def delete(request: Request, webhook_id: str) -> Response:
    """Forget a webhook."""
    webhook = _own(request, webhook_id)
    writer(request)
    request.automation.webhooks.delete(webhook)
    return Response()


def tell_of_commit(request: Request, repo: LocalRepo, ref: str, old: str, new: str) -> None:
    """Start the jobs that watch a repo in which a branch moved."""
    if old != new:
        private = repo.settings().private
        moved = ((ref, old, new),)
        change = RepoEvent(repo=repo, private=private, action="update", scope="repo.content", head=new, refs=moved)
        request.automation.webhooks.tell(change, request.base)


def tell_of_creation(request: Request, repo: LocalRepo, *, private: bool) -> None:
    """Start the jobs that watch a namespace in which a repo was made."""
    change = RepoEvent(repo=repo, private=private, action="create", scope="repo", head=None)
    request.automation.webhooks.tell(change, request.base)


def _switch(request: Request, webhook_id: str, *, disabled: bool) -> Response:
    webhook = replace(_own(request, webhook_id), disabled=disabled)
    writer(request)
    request.automation.webhooks.save(webhook)
    return _answer(webhook)


def _own(request: Request, webhook_id: str) -> StoredWebhook:
    found = request.automation.webhooks.find(webhook_id)
    if found is None or found.grant.name != caller(request).name:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no webhook {webhook_id}")
    return found


def _source(request: Request, wanted: dict[str, Any]) -> JobState | None:
    """Return the job that a webhook is to start, which the caller must be able to start too."""
    job_id = wanted.get("jobSourceId")
    if job_id is None:
        return None
    grant = caller(request)
    everywhere = EVERY_NAMESPACE in grant.namespaces
    spaces = request.automation.jobs.namespaces() if everywhere else {grant.name, *grant.namespaces}
    found = (request.automation.jobs.find(space, str(job_id)) for space in sorted(spaces))
    job = next((j for j in found if j is not None), None)
    if job is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no job {job_id}")
    writer_of(request, job.namespace)
    return job


def _watched(wanted: dict[str, Any]) -> tuple[WatchedTarget, ...]:
    items = wanted.get("watched")
    try:
        found = tuple(WatchedTarget.from_json(item) for item in items) if isinstance(items, list) else ()
    except MalformedRecordError as error:
        raise bad_request(f"'watched': {error}") from None
    if not found:
        raise bad_request("'watched' is empty, or is not a list")
    return found


def _domains(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value or not all(d in _DOMAINS for d in value):
        raise bad_request(f"'domains' are some of {', '.join(_DOMAINS)}")
    return tuple(value)


def _secrets(wanted: dict[str, Any], old: Secrets) -> Secrets:
    """Return the secrets as they are now: an empty value removes one."""
    values = {**old.values, **read_secrets(wanted.get("secrets") or {})}
    word = wanted.get("secret", old.word)
    if word is not None and not isinstance(word, str):
        raise bad_request("'secret' is not text")
    return Secrets(values={k: v for k, v in values.items() if v}, word=word)


def _answer(webhook: StoredWebhook) -> Response:
    return json_response({"webhook": webhook.to_answer()})
