"""Elsewhere: build what a plan says on Hugging Face Jobs, and collect what came of it from the Hub."""

import dataclasses
import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from bot.catalogue.naming import TEMPLATE
from bot.config import TEXT_VARIABLE, Config
from bot.config.text import text_of
from bot.context import Context
from bot.errors import ConfigError, PhiBotError
from bot.hf_jobs.collect import JobRequest, collect
from bot.hub import jobs
from bot.hub.jobs import JobOrder, RemoteJob
from bot.machines.assign_runners import candidates
from bot.machines.batches import batches
from bot.publishing.rights import payer
from bot.records.artifacts import Failure, Json, Report
from bot.records.digests import digest_of
from bot.records.failures import failure
from bot.records.plans import Job, Plan

KIND = "hf-jobs/"
SHORTEST = 30 * 60  # seconds: installing toolchains takes its time, whatever the estimate

_JOIN_SECONDS = 0.5
_CLOCKS_DIFFER = dt.timedelta(minutes=2)


def submit(todo: Plan, context: Context, *, staged: bool = False) -> Report:
    """Build the jobs of a plan on Hugging Face Jobs, all at once, and wait for all of them.

    There they publish, or stage where it is to be ``staged``, with the token that starts them.

    A job that a bot before this one started for the same work is followed, not started again. When a job has ended, its
    publications, and the reasons why the rest is not published, are read from the Hub. A KeyboardInterrupt is passed
    on; the jobs go on, and a line says how to see and end them. Raises ConfigError without a namespace to publish in,
    and TokenError.
    """
    config, hub, display = context.config, context.hub, context.display
    config.namespace("jobs that run elsewhere need a namespace to publish in")
    failures: list[Failure] = []
    running: list[tuple[JobRequest, RemoteJob]] = []
    token = jobs.token_of(hub)
    flavors = candidates((KIND.rstrip("/"),), context)
    for errand in job_requests(todo.jobs, {r.name: r.disk for r in flavors}):
        try:
            job, is_new = jobs.start(hub, payer(config), _order(errand, context, token, staged=staged))
        except PhiBotError as error:
            failures += _all_failed(errand, error)
            continue
        display.say(f"{errand.name}: {'started' if is_new else 'is running already,'} {job.url}")
        running.append((errand, job))
    failures += [f for job in todo.jobs if not can_travel(job) for f in _stays(job)]
    ended = _follow(running, context)
    return collect(ended, failures, context, staged=staged)


def job_requests(planned: Sequence[Job], disks: Mapping[str, int]) -> Iterator[JobRequest]:
    """Yield what each Hugging Face job is to do: what one release has for one flavor, if its disk holds all of it.

    ``disks`` has the bytes of flavors by the names of their runners.
    """
    for runner, batch in batches(filter(can_travel, planned), disks):
        yield JobRequest(release=batch[0].release, jobs=batch, flavor=runner.removeprefix(KIND))


def can_travel(job: Job) -> bool:
    """Say whether a job may run on Hugging Face Jobs: it is placed there, and its release is on the Hub."""
    return job.release.commit is not None and job.placement is not None and job.placement.runner.startswith(KIND)


def phi_bot(arguments: Sequence[str], config: Config) -> tuple[str, ...]:
    """Return the command that makes phi-bot available in the image, and runs it.

    The arguments never become part of the script: they are passed to it, whatever they hold.
    """
    setup = config.hf_jobs.setup.strip()
    script = 'exec phi-bot "$@"'
    if setup:
        script = f"{{ {setup}\n}} && {script}"
    return ("bash", "-c", script, "phi-bot", *arguments)


def environment(config: Config) -> dict[str, str]:
    """Return what a phi-bot elsewhere has to know: its Hub, and the configuration, but for issues on GitHub.

    No token of GitHub's goes there, so it could not write any.
    """
    told = dataclasses.replace(config, announce=dataclasses.replace(config.announce, repository=None))
    return {"HF_ENDPOINT": config.hub.endpoint, TEXT_VARIABLE: text_of(told)}


def _stays(job: Job) -> Iterator[Failure]:
    if job.release.commit is None:
        message, hint = "is a folder of this machine", "Upload it to the Hub, or build it here."
    else:
        message, hint = "has no runner of Hugging Face Jobs", "See `phi-bot plan --on hf-jobs`."
    for planned in job.variants:
        error = ConfigError(f"{job.release.label} {message}", hint=hint)
        yield failure(job.release.label, planned.variant.name, "plan", error)


def _order(errand: JobRequest, context: Context, token: str, *, staged: bool) -> JobOrder:
    config = context.config
    namespace = config.publish.namespace or ""
    names = ",".join(v.variant.name for v in errand.planned)
    model = f"{errand.release.repo_id}@{errand.release.commit}"
    arguments = ("run", model, "--variants", names, "--namespace", namespace, *(("--stage",) if staged else ()))
    builds = sorted(v.build_key for v in errand.planned)
    work: dict[str, Json] = {"model": model, "builds": builds, "namespace": namespace}
    work |= {"staged": True} if staged else {}
    work |= {"repo": config.publish.repo} if config.publish.repo != TEMPLATE else {}
    here = dataclasses.replace(config.hub, endpoint=context.hub.endpoint)
    live = dataclasses.replace(config, hub=here, run=dataclasses.replace(config.run, dry_run=False))
    return JobOrder(
        name=f"phi-bot {errand.name}",
        digest=digest_of(work),
        image=config.hf_jobs.image,
        command=phi_bot(arguments, config),
        environment=environment(live),
        secrets={"HF_TOKEN": token},
        flavor=errand.flavor,
        seconds=max(SHORTEST, round(errand.seconds * config.hf_jobs.time_factor)),
    )


def _follow(
    running: Sequence[tuple[JobRequest, RemoteJob]], context: Context
) -> list[tuple[JobRequest, RemoteJob | PhiBotError]]:
    """Print what jobs print, each line with its job's name, until all are over; return them as they ended."""
    ended: dict[str, RemoteJob | PhiBotError] = {}
    bugs: list[Exception] = []

    def follow(errand: JobRequest, job: RemoteJob) -> None:
        try:
            for line in jobs.logs(context.hub, job):
                context.display.say(f"{errand.name} | {line}")
            ended[job.id] = jobs.wait(context.hub, job)
        except PhiBotError as error:
            ended[job.id] = error
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            bugs.append(error)

    threads = [threading.Thread(target=follow, args=pair, daemon=True) for pair in running]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_JOIN_SECONDS)  # without an end, Ctrl-C would not get through on every system
    except KeyboardInterrupt:
        _say_what_goes_on([job for _, job in running if job.id not in ended], context.display.say)
        raise
    if bugs:
        raise bugs[0]
    return [(errand, ended[job.id]) for errand, job in running]


def _say_what_goes_on(left: Sequence[RemoteJob], say: Callable[[str], None]) -> None:
    for job in left:
        say(f"It goes on: {job.url} (to end it: hf jobs cancel {job.namespace}/{job.id})")
    if left:
        say("The same command follows them again.")


def _all_failed(errand: JobRequest, error: PhiBotError) -> list[Failure]:
    return [failure(errand.release.label, v.variant.name, "build", error) for v in errand.planned]
