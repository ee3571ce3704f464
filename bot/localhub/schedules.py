"""Jobs that start on a schedule, in UTC."""

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from cronsim import CronSim, CronSimError

from bot.localhub import names
from bot.localhub.durable import locked, read_json
from bot.localhub.job_records import Initiator, JobSpec, JobState, SubmittedJob, iso_time, owner
from bot.localhub.jobs import Jobs, live
from bot.localhub.refused import bad_request, conflict
from bot.records.artifacts import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LATE_SECONDS = 60.0  # what was due longer ago is left out: the server was not running then
_TICK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class LastJob(Record):
    """The job that a schedule started last."""

    id: str
    at: float


@dataclass(frozen=True, kw_only=True)
class ScheduledJob(Record):
    """A job and when it starts. ``concurrency`` lets it start while the one before is running. Times in seconds."""

    id: str
    namespace: str
    spec: JobSpec
    schedule: str
    suspend: bool
    concurrency: bool
    created: float
    next_run: float | None
    last_job: LastJob | None = None

    def to_answer(self) -> dict[str, Any]:
        """Return what the client reads of it."""
        last = self.last_job
        return {
            "id": self.id,
            "createdAt": iso_time(self.created),
            "jobSpec": self.spec.to_answer(),
            "schedule": self.schedule,
            "suspend": self.suspend,
            "concurrency": self.concurrency,
            "status": {
                "lastJob": last and {"id": last.id, "at": iso_time(last.at)},
                "nextJobRunAt": None if self.suspend or self.next_run is None else iso_time(self.next_run),
            },
            "owner": owner(self.namespace),
        }


def next_run(schedule: str, after: float) -> float | None:
    """Return when a schedule is due next, in whole minutes; None for one that never is. Refuses what is none."""
    try:
        times = CronSim(_NAMED.get(schedule, schedule), datetime.fromtimestamp(after, UTC))
        return next((t.timestamp() for t in times), None)
    except CronSimError:
        raise bad_request(f"{schedule!r} is not a schedule: give @daily and the like, or five fields of cron") from None


class Schedules:
    """The scheduled jobs of a Hub's folder. The secrets of those that this process was given are known to it alone."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._folder = jobs.hub.folder / "schedules"
        self._secrets: dict[str, Mapping[str, str]] = {}
        self._ended = Event()
        self._clock = Thread(target=self._watch_the_clock, name="schedules", daemon=True)
        if jobs.runs:
            self._clock.start()

    def close(self) -> None:
        """Start no more jobs."""
        self._ended.set()
        if self._clock.is_alive():
            self._clock.join()

    def make(
        self, namespace: str, order: SubmittedJob, schedule: str, *, suspend: bool, concurrency: bool
    ) -> ScheduledJob:
        """Keep a job to be started on a schedule."""
        self.jobs.require()
        now = time.time()
        made = ScheduledJob(
            id=f"{int(now):08x}{token_hex(8)}",
            namespace=names.check_namespace(namespace),
            spec=order.spec,
            schedule=schedule,
            suspend=suspend,
            concurrency=concurrency,
            created=now,
            next_run=next_run(schedule, now),
        )
        self._secrets[made.id] = dict(order.secrets)
        self._save(made)
        return made

    def all(self, namespace: str) -> list[ScheduledJob]:
        """Return the scheduled jobs of a namespace, the oldest first."""
        folder = self._folder / names.check_namespace(namespace)
        found = [self.find(namespace, f.stem) for f in folder.glob("*.json")]
        return sorted((s for s in found if s is not None), key=lambda s: (s.created, s.id))

    def find(self, namespace: str, schedule_id: str) -> ScheduledJob | None:
        """Return a scheduled job, or None where there is none."""
        if not schedule_id.isalnum():
            return None
        try:
            return ScheduledJob.from_json(read_json(self._file(names.check_namespace(namespace), schedule_id)))
        except FileNotFoundError:
            return None

    def change(self, known: ScheduledJob, **changes: Any) -> ScheduledJob:
        """Change a scheduled job."""
        with self._alone():
            changed = replace(self.find(known.namespace, known.id) or known, **changes)
            if "schedule" in changes or "suspend" in changes:
                changed = replace(changed, next_run=next_run(changed.schedule, time.time()))
            self._save(changed)
        return changed

    def delete(self, known: ScheduledJob) -> None:
        """Forget a scheduled job. Jobs that it started go on."""
        with self._alone():
            self._file(known.namespace, known.id).unlink(missing_ok=True)
            self._secrets.pop(known.id, None)

    def run(self, known: ScheduledJob) -> JobState:
        """Start the job now. A 409 where it is running, or where its secrets are no longer known."""
        with self._alone():
            return self._start(known, time.time())

    def tick(self, now: float) -> None:
        """Start what is due."""
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            for known in self.all(folder.name):
                if known.next_run is not None and known.next_run <= now and not known.suspend:
                    with self._alone():
                        self._fire(folder.name, known.id, now)

    def _fire(self, namespace: str, schedule_id: str, now: float) -> None:
        known = self.find(namespace, schedule_id)  # another server over the same folder may have been faster
        if known is None or known.suspend or known.next_run is None or known.next_run > now:
            return
        due, after = known.next_run, replace(known, next_run=next_run(known.schedule, now))
        self._save(after)
        if now - due <= _LATE_SECONDS and self._knows_secrets(known) and not self._is_running(known):
            self._start(after, now)

    def _start(self, known: ScheduledJob, now: float) -> JobState:
        if not self._knows_secrets(known):
            raise conflict(f"the secrets of scheduled job {known.id} went when the Hub that took them ended")
        if self._is_running(known):
            raise conflict(f"scheduled job {known.id} is running, and is not to run twice at once")
        order = SubmittedJob(spec=known.spec, secrets=self._secrets.get(known.id, {}))
        started = self.jobs.start(known.namespace, order, Initiator(type="scheduled-job", id=known.id))
        self._save(replace(known, last_job=LastJob(id=started.id, at=now)))
        return started

    def _knows_secrets(self, known: ScheduledJob) -> bool:
        return set(known.spec.secrets) <= set(self._secrets.get(known.id, {}))

    def _is_running(self, known: ScheduledJob) -> bool:
        if known.concurrency or known.last_job is None:
            return False
        last = self.jobs.find(known.namespace, known.last_job.id)
        return last is not None and live(last)

    def _watch_the_clock(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            try:
                self.tick(time.time())
            except Exception:  # a disk that is full now may not be so in an hour: the clock goes on
                log.exception("scheduled jobs were not started")

    def _file(self, namespace: str, schedule_id: str) -> Path:
        return self._folder / namespace / f"{schedule_id}.json"

    def _save(self, schedule: ScheduledJob) -> None:
        self.jobs.hub.scratch.write_json(self._file(schedule.namespace, schedule.id), schedule.to_json(), mode=0o600)

    def _alone(self) -> AbstractContextManager[None]:
        return locked(self.jobs.hub.folder / "locks" / "schedules.lock")
