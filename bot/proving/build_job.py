"""Build: one job, in its toolchain. What comes out is in the working folder, whole or not at all."""

import datetime as dt
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import bot
from bot import source
from bot.building import importance_matrix
from bot.building import moments as second_moments
from bot.building import sensitivities as of_rounding
from bot.building.release_at_hand import AtHand, at_hand, missing_bytes
from bot.context import Context
from bot.errors import BuildError, NotFiniteError, PhiBotError, RecordError
from bot.formats import recipes
from bot.formats.registry import all_formats, worker_module
from bot.progress import Task, show_event
from bot.proving.imatrix_trial import Trials, to_build
from bot.proving.job_disk import folder_of, need_disk, streams
from bot.records.artifacts import (
    Artifact,
    BuildRecord,
    Calibration,
    Cost,
    Failure,
    Imatrix,
    Json,
    Release,
    Report,
    SourceRef,
    ToolchainRef,
    TypesByCost,
)
from bot.records.failures import failure
from bot.records.plans import Job, PlannedVariant
from bot.records.tasks import BuildTask, Target
from bot.source.chat_template import chat_format
from bot.source.prompt import prompt_of
from bot.system import disk
from bot.toolchains import Toolchain
from bot.toolchains.enter import FORESEEN, WholeSourceError
from bot.toolchains.install import ensure
from bot.workspace import SOLVED, Workspace, hash_files, read_artifact, write_json


def build_job(job: Job, context: Context, *, stock: bool = False, given: AtHand | None = None) -> Report:
    """Build the variants of a job that are not built yet, and return all of its artifacts.

    With ``stock`` the toolchain works its own way, without our fast paths: the same bytes for more memory and time. A
    variant that its toolchain cannot build becomes a Failure, and the others go on. What is killed goes on from where
    its files were whole. What tries an importance matrix is built twice, and the better file is kept. ``given`` is the
    release where it is at hand as a stream that other jobs share (see build_together.py).

    Raises DiskTooSmallError before anything is written, DiskFullError, and what ``fetch`` and
    ``toolchains.install.ensure`` raise; WholeSourceError where the release that is ``given`` does not do.
    """
    needed = job.estimate.output + job.estimate.disk
    what = f"building {len(job.variants)} {job.format} variants of {job.release.label}"
    with disk.disk_errors(what, context.workspace.root, needed=needed):
        return _build(job, context, given, stock=stock)


def _build(job: Job, context: Context, shared: AtHand | None, *, stock: bool) -> Report:
    release, workspace, display = job.release, context.workspace, context.display
    streamed = shared is None and not stock and streams(job, context)
    failures: list[Failure] = []
    with workspace.only_one(f"{job.format}-{release.content_digest[:16]}", display):
        while todo := [v for v in job.variants if not workspace.has(folder_of(v, release, workspace))]:
            opening = nullcontext(shared) if shared is not None else at_hand(release, context, streamed=streamed)
            try:
                with opening as given:  # before the toolchain: a broken model is known before minutes are spent on that
                    toolchain = ensure(job.format, display)
                    parts = [
                        p for v in todo for p in to_build(v) if not workspace.has(folder_of(p, release, workspace))
                    ]
                    builder = _Builder(job=job, given=given, toolchain=toolchain, context=context)
                    failures = builder.run(parts, stock=stock)
                    failures = Trials(release=release, given=given, context=context).decide(todo, failures)
            except WholeSourceError as error:
                if shared is not None:
                    raise
                display.say(f"{release.label} is fetched whole for {job.format}: {error.message}")
                streamed = False
                need_disk(job, workspace, missing_bytes(release, workspace))
                continue
            break
    failed = {f.variant for f in failures}
    built = [v for v in job.variants if v.variant.name not in failed]
    artifacts = tuple(read_artifact(folder_of(v, release, workspace)) for v in built)
    return Report(artifacts=artifacts, failures=tuple(failures))


def partial_report(job: Job, workspace: Workspace, error: PhiBotError) -> Report:
    """Return what is there of a job that an error ended: the artifacts that were whole by then, and the others."""
    artifacts: list[Artifact] = []
    failures: list[Failure] = []
    for planned in job.variants:
        folder = folder_of(planned, job.release, workspace)
        try:
            if workspace.has(folder):
                artifacts.append(read_artifact(folder))
                continue
            reason = error
        except RecordError as unreadable:
            reason = unreadable
        failures.append(failure(job.release.label, planned.variant.name, "build", reason))
    return Report(artifacts=tuple(artifacts), failures=tuple(failures))


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """The folders of what was measured on a release for some of its variants: None where nothing was, or it failed."""

    matrix: Path | None
    moments: Path | None
    sensitivities: Path | None

    def are_for(self, planned: PlannedVariant) -> bool:
        """Say whether a variant has what it needs."""
        variant = planned.variant
        needed = (
            (recipes.needs_matrix(variant), self.matrix),
            (variant.is_calibrated, self.moments),
            (recipes.chooses_types(variant), self.sensitivities),
        )
        return not any(needs and folder is None for needs, folder in needed)

    def imatrix_of(self, planned: PlannedVariant) -> Imatrix | None:
        """Return what a record says of the importance matrix of a variant."""
        needed = recipes.needs_matrix(planned.variant)
        return importance_matrix.read(self.matrix) if needed and self.matrix is not None else None

    def calibration_of(self, planned: PlannedVariant) -> Calibration | None:
        """Return what a record says of the moments that a variant is rounded for."""
        needed = planned.variant.is_calibrated
        return second_moments.read(self.moments) if needed and self.moments is not None else None


@dataclass(frozen=True, kw_only=True)
class _Builder:
    """The builder of a job: its format's worker, with the release at hand. ``failures`` are those so far."""

    job: Job
    given: AtHand
    toolchain: Toolchain
    context: Context
    failures: list[Failure] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """The log that receives the toolchain's output."""
        return self.context.workspace.log(f"{self.job.format}-build-{self.job.release.content_digest[:12]}")

    def run(self, todo: Sequence[PlannedVariant], *, stock: bool) -> list[Failure]:
        """Run the worker; keep each variant as soon as it is built. Return what failed."""
        measured = self._measured(todo)
        waiting = {v.variant.name: v for v in todo if measured.are_for(v)}
        if not waiting:
            return self.failures
        workspace, title = self.context.workspace, f"Building {', '.join(waiting)}"
        with workspace.scratch() as scratch, self.context.display.task(title) as task:
            outs = {name: scratch / str(i) / "files" for i, name in enumerate(waiting)}
            for folder in (scratch / "worker", *outs.values()):
                folder.mkdir(parents=True)

            def on_event(event: dict[str, Json]) -> None:
                if event["event"] == "progress":
                    show_event(task, event)
                elif event["event"] == "note":
                    self.context.display.say(f"{self.job.format}: {event['message']}")
                else:
                    planned = waiting.pop(event["variant"])
                    self._ended(planned, event, outs[planned.variant.name].parent, measured, task)

            targets = tuple(self._target(v, outs[name]) for name, v in waiting.items())
            request = replace(self._request(targets, scratch / "worker", measured), stock=stock)
            self._work(request, waiting, on_event)
        return self.failures

    def _measured(self, todo: Sequence[PlannedVariant]) -> "_Measured":
        """Return what variants need that is measured on the release. What cannot be is a failure of each."""
        release, given, context = self.job.release, self.given, self.context
        return _Measured(
            matrix=self._unless_it_fails(
                [v for v in todo if recipes.needs_matrix(v.variant)],
                lambda: importance_matrix.importance(release, given, self.toolchain, context),
            ),
            moments=self._unless_it_fails(
                [v for v in todo if v.variant.is_calibrated],
                lambda: second_moments.moments(release, given, context),
            ),
            sensitivities=self._unless_it_fails(
                [v for v in todo if recipes.chooses_types(v.variant)],
                lambda: of_rounding.sensitivities(release, given, context),
            ),
        )

    def _unless_it_fails(self, needing: Sequence[PlannedVariant], measure: Callable[[], Path]) -> Path | None:
        try:
            return measure() if needing else None
        except WholeSourceError:
            raise
        except (BuildError, NotFiniteError) as error:  # as without: the reference says it of the release
            self.failures.extend(failure(self.job.release.label, v.variant.name, "build", error) for v in needing)
            return None

    def _target(self, planned: PlannedVariant, out: Path) -> Target:
        partial = self.context.workspace.partial(planned.build_key, self.job.release)
        return Target(variant=planned.variant, out=str(out), partial=str(partial))

    def _request(self, targets: tuple[Target, ...], scratch: Path, measured: "_Measured") -> BuildTask:
        return BuildTask(
            source=str(self.given.folder),
            model_name=source.safe_name(self.job.release.name),
            targets=targets,
            scratch=str(scratch),
            threads=self.context.threads,
            streamed=self.given.stream is not None,
            importance=str(importance_matrix.file_in(measured.matrix, self.job.format)) if measured.matrix else "",
            moments=str(measured.moments or ""),
            sensitivities=str(measured.sensitivities or ""),
        )

    def _work(
        self, request: BuildTask, waiting: Mapping[str, PlannedVariant], on_event: Callable[[dict[str, Json]], None]
    ) -> None:
        """Run the worker. What is still ``waiting`` when it has ended has failed."""
        module = worker_module(self.job.format)
        try:
            self.given.run_worker(self.toolchain, module, "build", request, log=self.log, on_event=on_event)
        except WholeSourceError:
            raise
        except BuildError as error:
            self.failures.extend(failure(self.job.release.label, name, "build", error) for name in waiting)
        else:
            for planned in waiting.values():
                self._failed(planned, "the toolchain ended without a file for it")

    def _failed(self, planned: PlannedVariant, message: str, kind: str = "toolchain") -> None:
        error_class, do = FORESEEN.get(kind, (BuildError, ""))
        see = f"{do} The toolchain's own output is in {self.log}.".lstrip()
        error = error_class(f"{planned.variant.name}: {message}", hint=see)
        self.failures.append(failure(self.job.release.label, planned.variant.name, "build", error))

    def _ended(
        self, planned: PlannedVariant, event: dict[str, Json], folder: Path, measured: "_Measured", task: Task
    ) -> None:
        """Keep what was built of a variant, in ``folder``, or remember why it was not."""
        shutil.rmtree(self.context.workspace.partial(planned.build_key, self.job.release), ignore_errors=True)
        if event["event"] == "failed":
            self._failed(planned, event["message"], event["kind"])
            return
        form, release = all_formats()[planned.variant.format], self.job.release
        versions = self.toolchain.versions
        record = BuildRecord(
            build_key=planned.build_key,
            source=_ref(release),
            variant=planned.variant,
            toolchain=ToolchainRef(
                name=self.toolchain.name,
                lock_digest=self.toolchain.lock_digest,
                versions={p: versions[p] for p in form.packages if p in versions},
            ),
            files=hash_files(folder / "files", task, event.get("hashed", {})),
            cost=Cost(seconds=event["seconds"], peak_memory=event["peak_memory"]),
            bot_version=bot.__version__,
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            path_in_repo=planned.path_in_repo,
            imatrix=measured.imatrix_of(planned),
            calibration=measured.calibration_of(planned),
            types_by_cost=TypesByCost.from_json(types) if (types := event.get("types_by_cost")) else None,
            read_as=release.read_as,
            left_out=release.left_out,
            base=None if release.base is None else _ref(release.base),
        )
        if solved := event.get("solved"):
            write_json(folder / SOLVED, solved)
        self._keep(record, folder, folder_of(planned, release, self.context.workspace))

    def _keep(self, record: BuildRecord, folder: Path, final: Path) -> None:
        """Write the records beside the files, and give the artifact its name."""
        staged = self.given.folder
        write_json(folder / "build.json", record.to_json())
        write_json(folder / "release.json", self.job.release.to_json())
        # Here, where the model is read: who publishes later renders no template of a stranger's.
        prompt = prompt_of(chat_format(staged), record.created)
        write_json(folder / "prompt.json", prompt.to_json())
        _copy_notices(staged, folder / "notices")
        final.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(final)


def _ref(release: Release) -> SourceRef:
    return SourceRef(repo_id=release.repo_id, commit=release.commit, content_digest=release.content_digest)


def _copy_notices(staged: Path, notices: Path) -> None:
    """Keep the licence beside what is made from the model."""
    notices.mkdir()
    for name in sorted(source.NOTICES):
        if (staged / name).is_file():
            shutil.copyfile(staged / name, notices / name)
