"""Verify: an artifact in its own runtime, against the original. What fails here is not published."""

import time
from dataclasses import replace
from pathlib import Path

from bot.building import reference as references
from bot.building.release_at_hand import AtHand, at_hand, missing_bytes
from bot.config import Config
from bot.errors import BuildError, VerifyError
from bot.formats.registry import all_formats, worker_module
from bot.hub.client import Hub
from bot.progress import Display, Task
from bot.records.artifacts import Artifact, FileEntry, Json, Release
from bot.records.evidence import EVIDENCE_VERSION, Check, Evidence, judge
from bot.records.tasks import VerifyTask
from bot.system import disk
from bot.system.machine import missing_for
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from bot.workspace import Workspace, hash_files, read_release, write_json


def verify(
    artifact: Artifact, *, config: Config, workspace: Workspace, hub: Hub, threads: int, display: Display
) -> Artifact:
    """Measure an artifact and return it with its evidence, which is also written beside it as evidence.json.

    What was measured before on the same files against the same reference is not measured again; the gate is applied
    afresh. Raises VerifyError when this machine cannot run the file, its runtime does not load it, or a check fails.
    """
    with disk.disk_errors(f"verifying {artifact.build.variant.name}", workspace.root):
        return _verify(artifact, config=config, workspace=workspace, hub=hub, threads=threads, display=display)


def _verify(
    artifact: Artifact, *, config: Config, workspace: Workspace, hub: Hub, threads: int, display: Display
) -> Artifact:
    variant = artifact.build.variant
    missing = missing_for(variant.target)
    if missing is not None:
        raise VerifyError(f"{variant.name} cannot be verified here: {missing}", hint="Verify it on such a machine.")
    folder = Path(artifact.folder)
    release = read_release(folder)
    digest = references.digest(release)
    gate = config.gate(variant.precision)
    measured = artifact.evidence
    if measured is None or measured.reference_digest != digest:
        measured = _measure(artifact, release, workspace, hub, threads, display)
    evidence = judge(measured, gate)
    write_json(folder / "evidence.json", evidence.to_json())
    if not evidence.passed:
        reasons = "; ".join(f"{c.name}: {c.detail}" for c in evidence.checks if not c.passed)
        raise VerifyError(
            f"{variant.name} failed: {reasons}",
            hint=f"It is not published. The evidence is in {folder / 'evidence.json'}.",
        )
    return replace(artifact, evidence=evidence)


def _measure(
    artifact: Artifact,
    release: Release,
    workspace: Workspace,
    hub: Hub,
    threads: int,
    display: Display,
) -> Evidence:
    scarce = workspace.free() < missing_bytes(release, workspace)  # of a release that was streamed when it was built
    with at_hand(release, streamed=scarce, workspace=workspace, hub=hub, display=display) as given:
        return compare(artifact, release, given, workspace=workspace, threads=threads, display=display)


def compare(
    artifact: Artifact, release: Release, given: AtHand, *, workspace: Workspace, threads: int, display: Display
) -> Evidence:
    """Measure an artifact against its release, which is at hand. No gate is applied yet, so no distance passes.

    What the file is at fault for is in the evidence. Raises what computing the reference raises.
    """
    variant = artifact.build.variant
    expected = references.reference(release, given, workspace=workspace, threads=threads, display=display)
    toolchain = ensure(variant.format, display)
    form = all_formats()[variant.format]
    readings = form.read_differently(release.config)
    files = Path(artifact.folder) / "files"
    log = workspace.log(f"{variant.name}-verify-{release.content_digest[:12]}")
    started = time.monotonic()
    with display.task(f"Verifying {variant.name}") as task:
        request = VerifyTask(
            artifact=str(files),
            variant=variant,
            source=str(given.folder),
            reference=str(expected),
            threads=threads,
            read_differently=tuple(readings),
            streamed=given.stream is not None,
        )
        altered = _altered(hash_files(files, task), artifact.build.files)
        measured = _failed("integrity", altered) if altered else _run(given, toolchain, request, log, task)
    measured |= {
        "version": EVIDENCE_VERSION,
        "build_key": artifact.build.build_key,
        "reference_digest": references.digest(release),
        "known_behaviours": [k.to_json() for k in form.known_behaviours(release.config)],
        "read_differently": [r | {"reference": readings[r["kind"]]} for r in measured["read_differently"]],
        "gate": 0.0,
        "seconds": round(time.monotonic() - started, 3),
    }
    return judge(Evidence.from_json(measured), 0.0)


def _altered(found: tuple[FileEntry, ...], built: tuple[FileEntry, ...]) -> str | None:
    """Say which file is not as it was built, in size or sha256, or return None."""
    there, wanted = {f.path: f for f in found}, {f.path: f for f in built}
    for path in sorted(there.keys() | wanted.keys()):
        if path not in there:
            return f"{path} is missing"
        if path not in wanted:
            return f"{path} was not there when it was built"
        if there[path] != wanted[path]:
            what = "size" if there[path].size != wanted[path].size else "sha256"
            return f"{path} has another {what} than when it was built"
    return None


def _run(given: AtHand, toolchain: Toolchain, request: VerifyTask, log: Path, task: Task) -> Json:
    try:
        return given.run_worker(
            toolchain,
            worker_module(toolchain.name),
            "verify",
            request,
            log=log,
            on_event=lambda e: task.update(e["what"], e["done"], e["total"], e["unit"]),
        )
    except BuildError as error:  # the runtime died of it
        return _failed("runtime", error.message)


def _failed(name: str, reason: str) -> Json:
    """Return what is known of an artifact on which nothing could be measured: the check that failed."""
    check = Check(name=name, passed=False, detail=reason)
    nothing: list[Json] = []
    return {
        "runtime": "",
        "machine": "",
        "checks": [check.to_json()],
        "distances": nothing,
        "stretches": nothing,
        "read_differently": nothing,
        "cost": None,
        "generations": nothing,
    }
