"""Elsewhere: build what a plan says on Hugging Face Jobs, and collect what came of it from the Hub."""

import dataclasses
import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bot.config import TEXT_VARIABLE, Config
from bot.config_text import text_of
from bot.errors import ConfigError, PhiBotError, RemoteJobError
from bot.hub import jobs
from bot.hub.client import Hub
from bot.hub.jobs import Order, RemoteJob
from bot.memory import Attempted
from bot.plans import Job, Plan, PlannedVariant
from bot.printable import printable
from bot.progress import Display
from bot.records import Failure, Publication, Release, RepoRecord, Report, digest_of
from bot.steps.batches import batches
from bot.steps.failures import failure
from bot.steps.remember import Store
from bot.steps.settle import candidates

KIND = "hf-jobs/"
SHORTEST = 30 * 60  # seconds: installing toolchains takes its time, whatever the estimate

_JOIN_SECONDS = 0.5
_CLOCKS_DIFFER = dt.timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What one Hugging Face job builds: variants of one release, which it downloads once."""

    release: Release
    jobs: tuple[Job, ...]
    flavor: str

    @property
    def planned(self) -> tuple[PlannedVariant, ...]:
        """The variants of all formats."""
        return tuple(v for job in self.jobs for v in job.variants)

    @property
    def name(self) -> str:
        """What its lines are marked with: the model, the formats and the flavor."""
        formats = "+".join(dict.fromkeys(job.format for job in self.jobs))
        return printable(f"{self.release.name} {formats} {self.flavor}")

    @property
    def seconds(self) -> float:
        """How long it is expected to take."""
        return sum(job.placement.seconds for job in self.jobs if job.placement is not None)


def submit(todo: Plan, *, config: Config, hub: Hub, display: Display) -> Report:
    """Build the jobs of a plan on Hugging Face Jobs, all at once, and wait for all of them.

    A job that a bot before this one started for the same work is followed, not started again. What is published, and
    why the rest is not, is read from the Hub when a job has ended. A KeyboardInterrupt is passed on; the jobs go on,
    and how to see and end them is said. Raises ConfigError without a namespace to publish in, and TokenError.
    """
    namespace = config.namespace("jobs that run elsewhere need a namespace to publish in")
    failures: list[Failure] = []
    running: list[tuple[Errand, RemoteJob]] = []
    token = jobs.token_of(hub)
    flavors = candidates((KIND.rstrip("/"),), config=config, hub=hub, display=display)
    for errand in errands(todo.jobs, {r.name: r.disk for r in flavors}):
        try:
            job, is_new = jobs.start(hub, payer(config), _order(errand, config, hub, token))
        except PhiBotError as error:
            failures += _all_failed(errand, error)
            continue
        display.say(f"{errand.name}: {'started' if is_new else 'is running already,'} {job.url}")
        running.append((errand, job))
    failures += [f for job in todo.jobs if not can_travel(job) for f in _stays(job)]
    ended = _follow(running, hub, display)
    return collect(ended, failures, hub=hub, state=f"{namespace}/{config.publish.state}")


def errands(planned: Sequence[Job], disks: Mapping[str, int]) -> Iterator[Errand]:
    """Yield what each Hugging Face job is to do: what one release has for one flavor, if its disk holds all of it.

    ``disks`` has the bytes of flavors by the names of their runners.
    """
    for runner, batch in batches(filter(can_travel, planned), disks):
        yield Errand(release=batch[0].release, jobs=batch, flavor=runner.removeprefix(KIND))


def can_travel(job: Job) -> bool:
    """Say whether a job may run on Hugging Face Jobs: it is placed there, and its release is on the Hub."""
    return job.release.commit is not None and job.placement is not None and job.placement.runner.startswith(KIND)


def payer(config: Config) -> str:
    """Return the namespace that runs the jobs, and pays."""
    return config.hf_jobs.namespace or config.publish.namespace or ""


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
    """Return what a phi-bot elsewhere has to know: its Hub, and the whole configuration."""
    return {"HF_ENDPOINT": config.hub.endpoint, TEXT_VARIABLE: text_of(config)}


def collect(
    ended: Sequence[tuple[Errand, RemoteJob | PhiBotError]], failures: Sequence[Failure], *, hub: Hub, state: str
) -> Report:
    """Return what jobs that have ended published, by the records on the Hub, and why they did not publish the rest.

    ``state`` is the dataset repo in which the bots on those machines noted what failed.
    """
    attempts = _attempts(hub, state)
    read = _Records(hub=hub)
    published: dict[str, list[str]] = {}
    failed = list(failures)
    for errand, job in ended:
        for planned in errand.planned:
            try:
                if planned.build_key in read.keys(planned.repo_id):
                    published.setdefault(planned.repo_id, []).append(planned.build_key)
                    continue
            except PhiBotError as error:
                failed.append(failure(errand.release.label, planned.variant.name, "publish", error))
                continue
            failed.append(_why(errand, planned, job, attempts.get(planned.build_key)))
    publications = tuple(read.publication(repo_id, keys) for repo_id, keys in sorted(published.items()))
    return Report(publications=publications, failures=tuple(failed))


@dataclass(frozen=True, kw_only=True)
class _Records:
    """The records of repos, each read once."""

    hub: Hub
    known: dict[str, tuple[RepoRecord, str] | None] = dataclasses.field(default_factory=dict)

    def keys(self, repo_id: str) -> frozenset[str]:
        """Return the build keys that a repo holds. Raises what ``hub.record`` raises."""
        if repo_id not in self.known:
            self.known[repo_id] = self.hub.record(repo_id)
        found = self.known[repo_id]
        return frozenset(b.build.build_key for b in found[0].builds) if found else frozenset()

    def publication(self, repo_id: str, keys: Sequence[str]) -> Publication:
        """Return what a repo holds of some builds that are known to be there."""
        found = self.known[repo_id]
        assert found is not None  # noqa: S101 - its keys were read from it
        record, head = found
        builds = tuple(b for b in record.builds if b.build.build_key in keys)
        url = self.hub.repo_url(repo_id)
        return Publication(repo_id=repo_id, commit=head, url=url, created=True, builds=builds)


def _stays(job: Job) -> Iterator[Failure]:
    if job.release.commit is None:
        message, hint = "is a folder of this machine", "Upload it to the Hub, or build it here."
    else:
        message, hint = "has no runner of Hugging Face Jobs", "See `phi-bot plan --on hf-jobs`."
    for planned in job.variants:
        error = ConfigError(f"{job.release.label} {message}", hint=hint)
        yield failure(job.release.label, planned.variant.name, "plan", error)


def _order(errand: Errand, config: Config, hub: Hub, token: str) -> Order:
    namespace = config.publish.namespace or ""
    names = ",".join(v.variant.name for v in errand.planned)
    model = f"{errand.release.repo_id}@{errand.release.commit}"
    arguments = ("run", model, "--variants", names, "--namespace", namespace)
    digest = digest_of({"model": model, "builds": sorted(v.build_key for v in errand.planned), "namespace": namespace})
    here = dataclasses.replace(config.hub, endpoint=hub.endpoint)
    live = dataclasses.replace(config, hub=here, run=dataclasses.replace(config.run, dry_run=False))
    return Order(
        name=f"phi-bot {errand.name}",
        digest=digest,
        image=config.hf_jobs.image,
        command=phi_bot(arguments, config),
        environment=environment(live),
        secrets={"HF_TOKEN": token},
        flavor=errand.flavor,
        seconds=max(SHORTEST, round(errand.seconds * config.hf_jobs.time_factor)),
    )


def _follow(
    running: Sequence[tuple[Errand, RemoteJob]], hub: Hub, display: Display
) -> list[tuple[Errand, RemoteJob | PhiBotError]]:
    """Print what jobs print, each line with its job's name, until all are over; return them as they ended."""
    ended: dict[str, RemoteJob | PhiBotError] = {}

    def follow(errand: Errand, job: RemoteJob) -> None:
        try:
            for line in jobs.logs(hub, job):
                display.say(f"{errand.name} | {line}")
            ended[job.id] = jobs.wait(hub, job)
        except PhiBotError as error:
            ended[job.id] = error

    threads = [threading.Thread(target=follow, args=pair, daemon=True) for pair in running]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_JOIN_SECONDS)  # without an end, Ctrl-C would not get through on every system
    except KeyboardInterrupt:
        _say_what_goes_on([job for _, job in running if job.id not in ended], display.say)
        raise
    return [(errand, ended[job.id]) for errand, job in running]


def _say_what_goes_on(left: Sequence[RemoteJob], say: Callable[[str], None]) -> None:
    for job in left:
        say(f"It goes on: {job.url} (to end it: hf jobs cancel {job.namespace}/{job.id})")
    if left:
        say("The same command follows them again.")


def _why(errand: Errand, planned: PlannedVariant, job: RemoteJob | PhiBotError, noted: Attempted | None) -> Failure:
    """Return why a variant is not published: what the bot on that machine noted of it, or else how its job ended."""
    label, name = errand.release.label, planned.variant.name
    if noted is not None and noted.step in ("plan", "build", "verify", "publish") and _is_of(noted, job):
        return Failure.from_json(
            {
                "release": label,
                "variant": name,
                "step": noted.step,
                "message": noted.message,
                "hint": noted.hint,
                "exit_code": noted.exit_code,
            }
        )
    if isinstance(job, PhiBotError):
        return failure(label, name, "build", job)
    words = f"its job ended as {job.stage}{f': {job.message}' if job.message else ''}"
    return failure(label, name, "build", RemoteJobError(words, hint=f"What it printed is at {job.url}."))


def _is_of(noted: Attempted, job: RemoteJob | PhiBotError) -> bool:
    """Say whether a note is of this attempt: the bot before may have failed at the same, and this one not begun."""
    return isinstance(job, PhiBotError) or dt.datetime.fromisoformat(noted.last) > job.created - _CLOCKS_DIFFER


def _all_failed(errand: Errand, error: PhiBotError) -> list[Failure]:
    return [failure(errand.release.label, v.variant.name, "build", error) for v in errand.planned]


def _attempts(hub: Hub, state: str) -> dict[str, Attempted]:
    store = Store(hub=hub, repo_id=state)
    with suppress(PhiBotError):  # without it, the jobs' own ends are told
        store.read()
    return store.memory.attempts
