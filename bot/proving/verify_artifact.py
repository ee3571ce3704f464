"""Verify: an artifact in its own runtime, against the original. What fails here is not published."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from bot.building import reference as references
from bot.building.release_at_hand import AtHand, at_hand, missing_bytes
from bot.context import Context
from bot.errors import BuildError, PhiBotError, VerifyError
from bot.formats.needs import is_read_past_switch, missing_to_prove
from bot.formats.registry import all_formats
from bot.progress import Task
from bot.proving.weights_pass import Found, compare_weights, run_verify
from bot.records.artifacts import Artifact, FileEntry, Json, Release
from bot.records.evidence import CHECKS, EVIDENCE_VERSION, Check, Evidence, judge
from bot.records.tasks import VerifyTask
from bot.system import disk, machine
from bot.toolchains import Toolchain
from bot.toolchains.install import ensure
from bot.workspace import hash_files, read_release, solved_file, write_json

_OF_MACHINE = 0.9  # of all memory, for a runtime: as a plan counts on


class Verifying:
    """Verifies artifacts one after the other, with one opening of each release.

    A release that streams is so read twice, however many artifacts it has: for the reference, and for the weights of
    all artifacts (see weights_pass.py). Of those of one release, format and device, one is read deeply: the first
    that passes.
    """

    def __init__(self, artifacts: Sequence[Artifact], context: Context) -> None:
        """Begin; nothing is opened before something has to be measured."""
        self._left = list(artifacts)
        self._context = context
        self._open = ExitStack()
        self._given: AtHand | None = None
        self._content = ""
        self._weights: dict[str, Found] = {}
        self._deep = {_kind(a) for a in artifacts if a.evidence is not None and a.evidence.deep and a.evidence.passed}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def verify(self, artifact: Artifact) -> Artifact:
        """Measure an artifact and return it with its evidence, which is also written beside it as evidence.json.

        What was measured before on the same files against the same reference is not measured again; the gate is
        applied afresh. Raises VerifyError when this machine cannot run the file, its runtime does not load it, or a
        check fails.
        """
        name = artifact.build.variant.name
        with disk.disk_errors(f"verifying {name}", self._context.workspace.root):
            return self._verify(artifact)

    def _verify(self, artifact: Artifact) -> Artifact:
        variant = artifact.build.variant
        missing = missing_to_prove(variant)
        if missing is not None:
            raise VerifyError(f"{variant.name} cannot be verified here: {missing}", hint="Verify it on such a machine.")
        folder = Path(artifact.folder)
        release = read_release(folder)
        times = self._context.config.times(variant.precision)
        measured = artifact.evidence
        if measured is None or measured.reference_digest != references.digest(release):
            measured = self._measure(artifact, release)
        evidence = judge(measured, times)
        write_json(folder / "evidence.json", evidence.to_json())
        if evidence.deep and evidence.passed:
            self._deep.add(_kind(artifact))
        if not evidence.passed:
            reasons = "; ".join(f"{c.name}: {c.detail}" for c in evidence.checks if not c.passed)
            raise VerifyError(
                f"{variant.name} failed: {reasons}",
                hint=f"It is not published. The evidence is in {folder / 'evidence.json'}.",
            )
        return replace(artifact, evidence=evidence)

    def _measure(self, artifact: Artifact, release: Release) -> Evidence:
        key = artifact.build.build_key
        given = self._opened(release)
        if given.stream is not None and key not in self._weights:
            self._read_weights(artifact, release, given)
        weights = self._weights.pop(key, None)
        if isinstance(weights, PhiBotError) and not isinstance(weights, BuildError):
            raise weights
        deep = _kind(artifact) not in self._deep
        return compare(artifact, release, given, self._context, deep=deep, weights=weights)

    def _opened(self, release: Release) -> AtHand:
        """Have a release at hand: the one that is open already, unless that is another one, or its stream failed."""
        given = self._given
        if given is None or self._content != release.content_digest or (given.stream and given.stream.error):
            self._open.close()
            self._given, self._content = None, release.content_digest
            workspace = self._context.workspace
            scarce = workspace.free() < missing_bytes(release, workspace)  # it was streamed when it was built
            opening = at_hand(release, self._context, streamed=scarce, keep_head=True)
            self._given = given = self._open.enter_context(opening)
        return given

    def _read_weights(self, artifact: Artifact, release: Release, given: AtHand) -> None:
        """Compare the weights of this artifact and of all later ones of the release that are to be measured."""
        context, digest = self._context, references.digest(release)
        self._left = self._left[self._left.index(artifact) :] if artifact in self._left else [artifact]
        together = [
            a
            for a in self._left
            if a.build.source.content_digest == release.content_digest
            and (a.evidence is None or a.evidence.reference_digest != digest)
            and missing_to_prove(a.build.variant) is None
        ]
        if len(together) == 1:  # it reads them itself
            return
        expected = references.reference(release, given, context)
        self._weights |= compare_weights(together, release, given, expected, context)


def _kind(artifact: Artifact) -> tuple[str, str, str]:
    """Return the content, the format and the device of an artifact: graphs for other devices branch in other ways."""
    variant = artifact.build.variant
    return artifact.build.source.content_digest, variant.format, variant.target


def compare(
    artifact: Artifact,
    release: Release,
    given: AtHand,
    context: Context,
    *,
    deep: bool = True,
    weights: Found | None = None,
) -> Evidence:
    """Measure an artifact against its release, which is at hand. It is judged by a policy that allows no rounding.

    A ``deep`` reading stands for other artifacts of its format (see worker/window_reading.py). ``weights`` is what
    comparing these has shown before. What the file is at fault for is in the evidence. Raises what computing the
    reference raises.
    """
    variant = artifact.build.variant
    expected = references.reference(release, given, context)
    toolchain = ensure(variant.format, context.display)
    form = all_formats()[variant.format]
    readings, known = form.read_differently(release.config), form.known_behaviours(release.config)
    # Where no gate looks at what every file reads, each is read deeply.
    deep = deep or any(k.side == "short" and not k.setting for k in known)
    deep = deep and is_read_past_switch(variant)
    files = Path(artifact.folder) / "files"
    log = context.workspace.log(f"{variant.name}-verify-{release.content_digest[:12]}")
    started = time.monotonic()
    with context.display.task(f"Verifying {variant.name}") as task:
        request = VerifyTask(
            artifact=str(files),
            variant=variant,
            source=str(given.folder),
            reference=str(expected),
            threads=context.threads,
            read_differently=tuple(readings),
            streamed=given.stream is not None,
            part="all" if weights is None else "all but weights",
            deep=deep,
            solved=solved_file(artifact),
            memory=round(_OF_MACHINE * machine.memory()),
        )
        altered = _altered(hash_files(files, task), artifact.build.files)
        measured = _failed("integrity", altered) if altered else _run(given, toolchain, request, log, task)
    if weights is not None and any(c["name"] == "rotary" for c in measured["checks"]):  # the file is whole
        measured, started = _with_weights(measured, weights), started - _seconds(weights)
    measured |= {
        "version": EVIDENCE_VERSION,
        "build_key": artifact.build.build_key,
        "reference_digest": references.digest(release),
        "known_behaviours": [k.to_json() for k in known],
        "read_differently": [r | {"reference": readings[r["kind"]]} for r in measured["read_differently"]],
        "deep": deep,
        "device": measured.get("device", ""),
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
        return run_verify(given, toolchain, request, log, task)
    except BuildError as error:  # the runtime died of it
        return _failed("runtime", error.message)


def _with_weights(measured: Json, weights: Found) -> Json:
    """Add what comparing the weights has shown, in its place among the checks."""
    if isinstance(weights, PhiBotError):  # the worker died of it
        return _failed("runtime", weights.message)
    checks = [*measured["checks"], *weights["checks"]]
    return measured | {"checks": sorted(checks, key=lambda check: CHECKS.index(check["name"]))}


def _seconds(weights: Found) -> float:
    return 0.0 if isinstance(weights, PhiBotError) else weights["seconds"]


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
        "rounding": None,
        "read_differently": nothing,
        "own_weights": None,
        "cost": None,
        "generations": nothing,
    }
