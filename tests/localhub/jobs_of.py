"""What the tests of jobs share."""

import sys
import time
from collections.abc import Callable

from huggingface_hub import HfApi, JobInfo

NAMESPACE = "demo"
OVER = ("COMPLETED", "CANCELED", "ERROR")


def shell(api: HfApi, script: str, **more: object) -> JobInfo:
    """Start a shell as a job."""
    return api.run_job(image="python:3.12", command=["bash", "-c", script], namespace=NAMESPACE, **more)  # type: ignore[arg-type]


def python(api: HfApi, script: str, **more: object) -> JobInfo:
    """Start this Python as a job."""
    command = [sys.executable, "-c", script]
    return api.run_job(image="python:3.12", command=command, namespace=NAMESPACE, **more)  # type: ignore[arg-type]


def inspect(api: HfApi, job: JobInfo) -> JobInfo:
    """Look at a job again."""
    return api.inspect_job(job_id=job.id, namespace=NAMESPACE)


def finish(api: HfApi, job: JobInfo) -> JobInfo:
    """Wait until a job is over."""
    return api.wait_for_job(job_id=job.id, namespace=NAMESPACE, timeout=60, poll_interval=0.05)


def logs(api: HfApi, job: JobInfo) -> list[str]:
    """Return all that a job prints."""
    return list(api.fetch_job_logs(job_id=job.id, namespace=NAMESPACE, follow=True))


def eventually(is_so: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
