"""Jobs over HTTP. Who belongs to a namespace sees its jobs; who may write there runs and ends them."""

import time
from http import HTTPStatus

from bot.localhub.access import caller, writer_of
from bot.localhub.hardware import FLAVORS
from bot.localhub.job_records import STAGES, Initiator, JobState, read_labels, read_order
from bot.localhub.lists import page_of
from bot.localhub.refused import RefusedError, bad_request, forbidden
from bot.localhub.web import Request, Response, StreamedBody, json_response


def hardware(request: Request) -> Response:  # noqa: ARG001
    """List the machines."""
    return json_response(FLAVORS)


def run(request: Request, namespace: str) -> Response:
    """Start a job."""
    grant = writer_of(request, namespace)
    order = read_order(request.json())
    by = Initiator(type="user", id=grant.name, name=grant.name)
    return _answer(request.automation.jobs.start(namespace, order, by))


def list_jobs(request: Request, namespace: str) -> Response:
    """List the jobs of a namespace, newest first; ``stage`` and ``label`` narrow them."""
    member(request, namespace)
    stages = request.query.get("stage", [])
    if wrong := set(stages) - set(STAGES) - {"DELETED"}:
        raise bad_request(f"there is no stage {', '.join(sorted(wrong))}")
    labels = labels_asked(request)
    found = [
        job
        for job in request.automation.jobs.all(namespace)
        if (not stages or job.stage in stages) and labels.items() <= job.spec.labels.items()
    ]
    page, headers = page_of(request, found)
    now = time.time()
    return json_response([job.to_answer(now) for job in page], headers=headers)


def inspect(request: Request, namespace: str, job_id: str) -> Response:
    """Tell what is known of a job."""
    return _answer(visible_job(request, namespace, job_id))


def logs(request: Request, namespace: str, job_id: str) -> Response:
    """Send what a job prints, until it is over."""
    job = visible_job(request, namespace, job_id)
    tail = request.number("tail", 0) if request.one("tail") is not None else None
    return Response(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"},
        body=StreamedBody(chunks=request.automation.jobs.logs(job, tail=tail)),
    )


def cancel(request: Request, namespace: str, job_id: str) -> Response:
    """End a job."""
    job = visible_job(request, namespace, job_id)
    writer_of(request, namespace)
    request.automation.jobs.cancel(job)
    return inspect(request, namespace, job_id)


def duplicate(request: Request, namespace: str, job_id: str) -> Response:
    """Start the same job again."""
    job = visible_job(request, namespace, job_id)
    writer_of(request, namespace)
    jobs = request.automation.jobs
    return _answer(jobs.start(namespace, jobs.order_of(job), Initiator(type="duplicated-job", id=job.id)))


def relabel(request: Request, namespace: str, job_id: str) -> Response:
    """Replace the labels of a job."""
    job = visible_job(request, namespace, job_id)
    writer_of(request, namespace)
    return _answer(request.automation.jobs.relabel(job, read_labels(request.json().get("labels"))))


def member(request: Request, namespace: str) -> None:
    """Refuse a caller who does not belong to a namespace."""
    if not caller(request).belongs_to(namespace):
        raise forbidden(f"the jobs of {namespace!r} are for its members alone")


def visible_job(request: Request, namespace: str, job_id: str) -> JobState:
    """Return a job of a namespace that the caller belongs to; a 404 where there is none."""
    member(request, namespace)
    job = request.automation.jobs.find(namespace, job_id)
    if job is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no job {job_id}")
    return job


def labels_asked(request: Request) -> dict[str, str]:
    """Return the labels that listed jobs must have."""
    return dict(text.partition("=")[::2] for text in request.query.get("label", []))


def _answer(job: JobState) -> Response:
    return json_response(job.to_answer(time.time()))
