"""Scheduled jobs over HTTP."""

import time
from http import HTTPStatus
from typing import Any

from bot.localhub.access import writer_of
from bot.localhub.api_jobs import labels_asked, member
from bot.localhub.job_records import read_labels, read_order
from bot.localhub.refused import RefusedError, bad_request
from bot.localhub.schedules import ScheduledJob
from bot.localhub.web import Request, Response, json_response, string


def create(request: Request, namespace: str) -> Response:
    """Keep a job to be started on a schedule."""
    writer_of(request, namespace)
    wanted = request.json()
    spec = wanted.get("jobSpec")
    if not isinstance(spec, dict):
        raise bad_request("'jobSpec' is missing, or is not an object")
    made = request.automation.schedules.make(
        namespace,
        read_order(spec),
        string(wanted, "schedule"),
        suspend=_flag(wanted, "suspend"),
        concurrency=_flag(wanted, "concurrency"),
    )
    return json_response(made.to_answer())


def list_schedules(request: Request, namespace: str) -> Response:
    """List the scheduled jobs of a namespace."""
    member(request, namespace)
    labels = labels_asked(request)
    found = request.automation.schedules.all(namespace)
    return json_response([s.to_answer() for s in found if labels.items() <= s.spec.labels.items()])


def inspect(request: Request, **where: str) -> Response:
    """Tell what is known of a scheduled job."""
    return json_response(_visible(request, **where).to_answer())


def delete(request: Request, **where: str) -> Response:
    """Forget a scheduled job."""
    request.automation.schedules.delete(_own(request, **where))
    return Response()


def suspend(request: Request, **where: str) -> Response:
    """Start it no more, until it is resumed."""
    return _changed(request, _own(request, **where), suspend=True)


def resume(request: Request, **where: str) -> Response:
    """Start it again when it is due."""
    return _changed(request, _own(request, **where), suspend=False)


def reschedule(request: Request, **where: str) -> Response:
    """Change when it is due."""
    return _changed(request, _own(request, **where), schedule=string(request.json(), "schedule"))


def relabel(request: Request, **where: str) -> Response:
    """Replace its labels."""
    known = _own(request, **where)
    labels = read_labels(request.json().get("labels"))
    return _changed(request, known, spec=type(known.spec).from_json(known.spec.to_json() | {"labels": labels}))


def run(request: Request, **where: str) -> Response:
    """Start it now, whatever its schedule says."""
    return json_response(request.automation.schedules.run(_own(request, **where)).to_answer(time.time()))


def _changed(request: Request, known: ScheduledJob, **changes: Any) -> Response:
    return json_response(request.automation.schedules.change(known, **changes).to_answer())


def _visible(request: Request, namespace: str, schedule_id: str) -> ScheduledJob:
    member(request, namespace)
    found = request.automation.schedules.find(namespace, schedule_id)
    if found is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no scheduled job {schedule_id}")
    return found


def _own(request: Request, namespace: str, schedule_id: str) -> ScheduledJob:
    found = _visible(request, namespace, schedule_id)
    writer_of(request, namespace)
    return found


def _flag(wanted: dict[str, Any], key: str) -> bool:
    value = wanted.get(key, False)
    if not isinstance(value, bool):
        raise bad_request(f"{key!r} is neither true nor false")
    return value
