"""Running jobs: each a process of this machine, in an empty folder, with nothing of the server's environment.

A job runs with the rights of whoever runs the server; it is kept apart from the server's tokens, and from nothing else.
The image is remembered and not used.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from threading import Event, Lock, Thread

from filelock import FileLock, Timeout

from bot.localhub import job_log, names
from bot.localhub.durable import read_json
from bot.localhub.job_records import OVER, Initiator, JobState, SubmittedJob
from bot.localhub.refused import conflict, forbidden
from bot.localhub.store import LocalHub
from bot.system import guard

_LEFTOVER_SECONDS = 5.0  # for reading what a job printed, after its end
_LOST = "the Hub that ran it ended"


@dataclass(kw_only=True)
class _Running:
    """A job of this process: how it is stopped, and why it was."""

    stop: Event = field(default_factory=Event)
    why: str = ""
    thread: Thread | None = None


class Jobs:
    """The jobs of a Hub's folder; those that this process started are run here, and end with it.

    Only a Hub that ``runs`` jobs starts any: they are commands of whoever may write, run as whoever serves.
    """

    def __init__(self, hub: LocalHub, *, runs: bool) -> None:
        self.hub = hub
        self.runs = runs
        self._folder = hub.folder / "jobs"
        self._running: dict[str, _Running] = {}
        self._secrets: dict[str, Mapping[str, str]] = {}  # by the job's id; gone when the process ends
        self._lock = Lock()

    def close(self) -> None:
        """End all jobs of this process."""
        with self._lock:
            running = list(self._running.values())
        for one in running:
            _stop(one, _LOST)
        for one in running:
            if one.thread is not None:
                one.thread.join(timeout=30)

    def require(self) -> None:
        """Refuse where no jobs are run."""
        if not self.runs:
            raise forbidden("this embedded Hub runs no jobs: start it with --jobs")

    def start(self, namespace: str, order: SubmittedJob, initiator: Initiator) -> JobState:
        """Start a job and return it at once."""
        self.require()
        names.check_namespace(namespace)
        now = time.time()
        state = JobState(
            id=f"{int(now):08x}{token_hex(8)}",
            namespace=namespace,
            spec=order.spec,
            initiator=initiator,
            created=now,
        )
        folder = self._place(state)
        folder.mkdir(parents=True)
        held = FileLock(folder / "lock", thread_local=False)  # until the job is over: so others see that it lives
        held.acquire()
        one = _Running()
        self._save(state)
        self._secrets[state.id] = dict(order.secrets)
        one.thread = Thread(target=self._work, args=[state, one, held], name=f"job {state.id}", daemon=True)
        with self._lock:
            self._running[state.id] = one
        one.thread.start()
        return state

    def order_of(self, state: JobState) -> SubmittedJob:
        """Return a job as it was ordered; a 409 where its secrets are no longer known."""
        secrets = self._secrets.get(state.id, {})
        if set(state.spec.secrets) - set(secrets):
            raise conflict(f"the secrets of job {state.id} went when the Hub that ran it ended")
        return SubmittedJob(spec=state.spec, secrets=secrets)

    def all(self, namespace: str) -> list[JobState]:
        """Return the jobs of a namespace, newest first."""
        folder = self._folder / names.check_namespace(namespace)
        found = (self.find(namespace, f.name) for f in folder.iterdir()) if folder.is_dir() else ()
        return sorted((s for s in found if s is not None), key=lambda s: (-s.created, s.id))

    def namespaces(self) -> set[str]:
        """Return the namespaces that have jobs."""
        return {f.name for f in self._folder.iterdir()} if self._folder.is_dir() else set()

    def find(self, namespace: str, job_id: str) -> JobState | None:
        """Return a job as it is now, or None where there is none."""
        folder = self._folder / names.check_namespace(namespace) / job_id
        if not job_id.isalnum() or not (folder / "job.json").exists():
            return None
        state = JobState.from_json(read_json(folder / "job.json"))
        if state.stage in OVER or job_id in self._running:
            return state
        try:
            with FileLock(folder / "lock", timeout=0):
                state = JobState.from_json(read_json(folder / "job.json"))  # it may have ended just now
                if state.stage not in OVER:
                    state = replace(state, stage="ERROR", message=_LOST, finished=time.time())
                    self._save(state)
        except Timeout:
            pass  # another server over the same folder runs it
        return state

    def relabel(self, state: JobState, labels: dict[str, str]) -> JobState:
        """Give a job other labels."""
        with self._lock:
            now = self.find(state.namespace, state.id) or state
            changed = replace(now, spec=replace(now.spec, labels=labels))
            self._save(changed)
        return changed

    def cancel(self, state: JobState) -> None:
        """End a job; one that is over stays as it is. A 409 where another server runs it."""
        with self._lock:
            one = self._running.get(state.id)
        if one is not None:
            _stop(one, "")
            if one.thread is not None:
                one.thread.join(timeout=30)
        elif state.stage not in OVER:
            raise conflict(f"job {state.id} is run by another server over the same folder")

    def logs(self, state: JobState, *, tail: int | None) -> Iterator[bytes]:
        """Yield what a job printed, and goes on printing until it is over, as server-sent events."""

        def is_over() -> bool:
            now = self.find(state.namespace, state.id)
            return now is None or now.stage in OVER

        return job_log.follow(self._place(state) / "log.jsonl", is_over, tail=tail)

    def _place(self, state: JobState) -> Path:
        return self._folder / state.namespace / state.id

    def _save(self, state: JobState) -> None:
        self.hub.scratch.write_json(self._place(state) / "job.json", state.to_json(), mode=0o600)

    def _change(self, state: JobState, **changes: object) -> JobState:
        with self._lock:  # labels may change meanwhile
            labels = JobState.from_json(read_json(self._place(state) / "job.json")).spec.labels
            changed: JobState = replace(state, spec=replace(state.spec, labels=labels), **changes)  # type: ignore[arg-type]
            self._save(changed)
        return changed

    def _work(self, state: JobState, one: _Running, held: FileLock) -> None:
        try:
            state = self._change(state, stage="RUNNING", started=time.time())
            stage, message = "ERROR", ""
            for _ in range(state.spec.attempts):
                stage, message = self._attempt(state, one)
                if stage != "ERROR" or one.stop.is_set():
                    break
            self._change(state, stage=stage, message=message or None, finished=time.time())
        except Exception as error:
            self._change(state, stage="ERROR", message=f"the embedded Hub failed: {error}", finished=time.time())
            raise
        finally:
            with self._lock:
                self._running.pop(state.id, None)
            held.release()

    def _attempt(self, state: JobState, one: _Running) -> tuple[str, str]:
        """Run the command once, to its end or to its time limit; return the stage and the message."""
        log = self._place(state) / "log.jsonl"
        with _empty_folder(self.hub.scratch.folder) as home:
            environment = self._environment(state, home)
            command = state.spec.command
            if shutil.which(command[0], path=environment["PATH"]) is None:
                return "ERROR", f"Job failed with exit code: 127. Reason: {command[0]!r} was not found"
            job_log.note(log, f"===== Job started at {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} =====")
            process = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, *command],
                stdin=subprocess.PIPE,  # never written to: the guard ends the job when we are gone
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=environment,
                start_new_session=True,
            )
            reader = Thread(target=job_log.write, args=[log, process.stdout], daemon=True)
            reader.start()
            in_time = _wait(process, one.stop, state.spec.timeout)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # it, or what it left running
            code = process.wait()
            reader.join(timeout=_LEFTOVER_SECONDS)
            if process.stdin is not None:
                process.stdin.close()
        if one.stop.is_set():
            return ("ERROR", one.why) if one.why else ("CANCELED", "")
        if not in_time:
            return "ERROR", f"Job timeout: it ran longer than {state.spec.timeout} seconds"
        return ("COMPLETED", "") if code == 0 else ("ERROR", f"Job failed with exit code: {code}")

    def _environment(self, state: JobState, home: Path) -> dict[str, str]:
        kept = {k: os.environ[k] for k in ("PATH", "LANG") if k in os.environ}
        own = {"HOME": str(home), "TMPDIR": str(home), "JOB_ID": state.id}
        return {"PATH": os.defpath, **kept, **own, **state.spec.environment, **self._secrets.get(state.id, {})}


def live(state: JobState) -> bool:
    """Say whether a job is not over yet."""
    return state.stage not in OVER


def _stop(one: _Running, why: str) -> None:
    if not one.stop.is_set():
        one.why = why
        one.stop.set()


def _wait(process: subprocess.Popen[bytes], stop: Event, seconds: float) -> bool:
    """Wait for a process, until its time is over or it is to stop; return whether it was in time."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and not stop.wait(0.05):
        if time.monotonic() > deadline:
            return False
    return True


@contextmanager
def _empty_folder(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
