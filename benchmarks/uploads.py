"""Do uploads overlap building? ``python -m benchmarks.uploads MODEL_FOLDER``, with a Hub that takes 50 MB a second.

Builds the default variants alone, uploads alone what was built, and then does both as a run does
(bot/publishing/early_upload.py). Verifying is left out: it would only leave more time for uploads. Writes
benchmarks/results/uploads.json.
"""

import argparse
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bot import catalogue, source
from bot.config import Config
from bot.hub import client
from bot.hub.client import Hub
from bot.localhub import serve
from bot.machines.estimate_models import expected
from bot.machines.placing import place_jobs
from bot.machines.runners import local
from bot.progress import Display, display
from bot.proving.build_job import build_job
from bot.proving.prove import in_order
from bot.publishing.early_upload import EarlyUpload
from bot.records.artifacts import Artifact
from bot.records.plans import Job
from bot.source.shape import local_shape
from bot.steps.plan import plan_releases
from tests.contexts import context_of

RESULTS = Path(__file__).parent / "results" / "uploads.json"
_CORES = 2
_PIECE = 1 << 16
_CREDIT_SECONDS = 0.1  # what a sleep that was too long leaves to be made up for


class Throttle:
    """So many bytes a second, over all connections together."""

    def __init__(self, rate: float) -> None:
        self._rate, self._lock, self._due = rate, threading.Lock(), time.monotonic()

    def take(self, count: int) -> None:
        """Return when so many bytes may go."""
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now - _CREDIT_SECONDS) + count / self._rate
            pause = self._due - now
        if pause > 0:
            time.sleep(pause)


@contextmanager
def throttled(url: str, rate: float) -> Iterator[str]:
    """Give the address of a server that hands everything on to another one, at most at a rate of bytes a second."""
    throttle, target = Throttle(rate), urlsplit(url)
    server = socket.create_server(("127.0.0.1", 0))

    def pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(_PIECE):
                throttle.take(len(piece))
                other.sendall(piece)
            other.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                here, _ = server.accept()
                there = socket.create_connection((target.hostname or "", target.port or 80))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()


def jobs_of(model: Path, work: Path) -> Sequence[Job]:
    """Return the jobs of a model's default variants, in the order of a run whose jobs take what building them does."""
    release = source.local_release(model)
    todo = plan_releases([release], catalogue.select(["default"]))
    shape = local_shape(model, release.config)
    shapes, runners = {release.content_digest: shape}, (local(work, _CORES),)

    def building(job: Job) -> Job:
        seconds = sum(expected("build", shape, v.variant, "cpu_seconds") for v in job.variants) / _CORES
        return replace(job, placement=replace(job.placement, seconds=seconds) if job.placement else None)

    return in_order([building(job) for job in place_jobs(todo, runners=runners, shapes=shapes, config=Config()).jobs])


def files_of(artifact: Artifact) -> Mapping[str, Path]:
    """Return the files of an artifact, by where they would be in one repo for all."""
    folder = artifact.build.variant.name
    return {f"{folder}/{f.path}": Path(artifact.folder) / "files" / f.path for f in artifact.build.files}


def built(jobs: Sequence[Job], work: Path, hub: Hub, shown: Display) -> Iterator[Artifact]:
    """Build jobs one after the other."""
    for job in jobs:
        report = build_job(job, context_of(hub=hub, workspace=work, display=shown, threads=_CORES))
        yield from report.artifacts


def main() -> None:
    """Measure the three, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rate", type=float, default=50e6, help="bytes a second")
    parser.add_argument("--work", type=Path, default=Path(".uploads"))
    options = parser.parse_args()
    work: Path = options.work
    shutil.rmtree(work, ignore_errors=True)
    shown = display()
    with serve(work / "hub") as served, throttled(served.url, options.rate) as slow:
        hub = client.connect(slow, served.token)
        jobs = jobs_of(options.model, work)

        started = time.monotonic()
        artifacts = list(built(jobs, work / "alone", hub, shown))
        building = time.monotonic() - started

        started = time.monotonic()
        for artifact in artifacts:
            hub.upload_ahead("me/alone", files_of(artifact), private=False)
        uploading = time.monotonic() - started
        size = sum(f.size for a in artifacts for f in a.build.files)
        shutil.rmtree(work / "alone")
        shutil.rmtree(work / "hub" / "blobs", ignore_errors=True)

        started = time.monotonic()
        with EarlyUpload(hub, lambda a: ("me/both", False, files_of(a)), shown) as ahead:
            for artifact in built(jobs, work / "both", hub, shown):
                ahead.offer(artifact)
        both = time.monotonic() - started
    shutil.rmtree(work)
    found = {
        "rate": options.rate,
        "bytes": size,
        "building_seconds": round(building, 1),
        "uploading_seconds": round(uploading, 1),
        "both_seconds": round(both, 1),
        "ratio_to_the_larger": round(both / max(building, uploading), 3),
        "order": [job.format for job in jobs],
    }
    print(json.dumps(found, indent=2))
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
