"""Build: one job, in its toolchain. What comes out is in the working folder, whole or not at all."""

import datetime as dt
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import bot
from bot import source
from bot.building import importance_matrix
from bot.building.release_at_hand import AtHand, at_hand, can_stream, forget_download, missing_bytes
from bot.errors import BuildError, DiskTooSmallError, NotFiniteError, PhiBotError, RecordError
from bot.formats import recipes
from bot.formats.registry import all_formats, worker_module
from bot.hub.client import Hub
from bot.progress import Display
from bot.records.artifacts import (
    Artifact,
    BuildRecord,
    Cost,
    Failure,
    FileEntry,
    Imatrix,
    Json,
    Release,
    Report,
    SourceRef,
    ToolchainRef,
)
from bot.records.failures import failure
from bot.records.plans import Job, PlannedVariant
from bot.records.tasks import BuildTask, Target
from bot.source import sparse_files
from bot.source.chat_template import chat_format
from bot.source.prompt import prompt_of
from bot.source.sparse_files import streamed_bytes
from bot.steps.imatrix_trial import Trials, to_build
from bot.system import disk
from bot.toolchains import Toolchain
from bot.toolchains.enter import FORESEEN, WholeSourceError
from bot.toolchains.install import ensure
from bot.workspace import Workspace, hash_files, read_artifact, write_json


def build(
    job: Job,
    *,
    workspace: Workspace,
    hub: Hub,
    threads: int,
    display: Display,
    stock: bool = False,
    given: AtHand | None = None,
) -> Report:
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
    with disk.disk_errors(what, workspace.root, needed=needed):
        return _build(job, given, workspace=workspace, hub=hub, threads=threads, display=display, stock=stock)


def _build(
    job: Job,
    shared: AtHand | None,
    *,
    workspace: Workspace,
    hub: Hub,
    threads: int,
    display: Display,
    stock: bool,
) -> Report:
    release = job.release
    streamed = shared is None and not stock and streams(job, workspace, display)
    failures: list[Failure] = []
    with workspace.only_one(f"{job.format}-{release.content_digest[:16]}", display):
        while todo := [v for v in job.variants if not workspace.has(_folder(workspace, v, release))]:
            have = at_hand(release, streamed=streamed, workspace=workspace, hub=hub, display=display)
            try:
                with (
                    nullcontext(shared) if shared is not None else have as given
                ):  # before the toolchain: a broken model is known before minutes are spent on that
                    toolchain = ensure(job.format, display)
                    parts = [p for v in todo for p in to_build(v) if not workspace.has(_folder(workspace, p, release))]
                    failures = _run(job, parts, given, toolchain, workspace, threads, display, stock=stock)
                    trials = Trials(release=release, given=given, workspace=workspace, threads=threads, display=display)
                    failures = trials.decide(todo, failures)
            except WholeSourceError as error:
                if shared is not None:
                    raise
                display.say(f"{release.label} is fetched whole for {job.format}: {error.message}")
                streamed = False
                _need_disk(job, workspace, missing_bytes(release, workspace))
                continue
            break
    failed = {f.variant for f in failures}
    built = [v for v in job.variants if v.variant.name not in failed]
    artifacts = tuple(read_artifact(_folder(workspace, v, release)) for v in built)
    return Report(artifacts=artifacts, failures=tuple(failures))


def partial_report(job: Job, workspace: Workspace, error: PhiBotError) -> Report:
    """Return what is there of a job that an error ended: the artifacts that were whole by then, and the others."""
    artifacts: list[Artifact] = []
    failures: list[Failure] = []
    for planned in job.variants:
        folder = _folder(workspace, planned, job.release)
        try:
            if workspace.has(folder):
                artifacts.append(read_artifact(folder))
                continue
            reason = error
        except RecordError as unreadable:
            reason = unreadable
        failures.append(failure(job.release.label, planned.variant.name, "build", reason))
    return Report(artifacts=tuple(artifacts), failures=tuple(failures))


def streams(job: Job, workspace: Workspace, display: Display) -> bool:
    """Say whether the source of a job is to stream: as planned, or because the disk is smaller than was thought.

    Raises DiskTooSmallError where there is no room either way.
    """
    possible = can_stream(job.release, workspace)
    missing, least = missing_bytes(job.release, workspace), streamed_bytes(job.release)
    if possible and job.source == "streamed":
        _need_disk_streamed(job, workspace, least, display)
        return True
    try:
        _need_disk(job, workspace, missing)
    except DiskTooSmallError:
        if not possible:
            raise
        _need_disk_streamed(job, workspace, least, display)
        display.say(
            f"The weights of {job.release.label} do not fit on the disk beside the files made of them, so they stream"
        )
        return True
    return False


def _need_disk_streamed(job: Job, workspace: Workspace, least: int, display: Display) -> None:
    """Raise DiskTooSmallError unless there is room to stream, without what a download left that is not gone on with."""
    try:
        _need_disk(job, workspace, least)
    except DiskTooSmallError:
        if not forget_download(job.release, workspace, display):
            raise
        _need_disk(job, workspace, least)


def _need_disk(job: Job, workspace: Workspace, source_bytes: int) -> None:
    """Raise DiskTooSmallError unless there is room for what is made and for so much of the source."""
    needed = disk_to_come(job, workspace) + source_bytes
    if is_left(job, workspace):
        workspace.need_disk(needed, f"Building {len(job.variants)} {job.format} variants of {job.release.label}")


def disk_to_come(job: Job, workspace: Workspace) -> int:
    """Return how many bytes of disk a job will take beside its source, without what is there of it."""
    return job.estimate.output + job.estimate.disk - _whole_already(job, workspace)


def is_left(job: Job, workspace: Workspace) -> bool:
    """Say whether anything of a job is to be built."""
    return any(not workspace.has(_folder(workspace, v, job.release)) for v in job.variants)


def _whole_already(job: Job, workspace: Workspace) -> int:
    """Return how many bytes of the outputs a build that was killed has left. Files that are not whole have holes."""
    built = [p for v in job.variants for p in to_build(v)]
    parts = [f for p in built for f in workspace.partial(p.build_key, job.release).glob("*.part")]
    files = [f for p in built for f in (_folder(workspace, p, job.release) / "files").rglob("*") if f.is_file()]
    return min(sum(sparse_files.allocated_bytes(f) for f in (*parts, *files)), job.estimate.output + job.estimate.disk)


def _folder(workspace: Workspace, planned: PlannedVariant, release: Release) -> Path:
    return workspace.artifact(planned.build_key, release)


def _run(
    job: Job,
    todo: Sequence[PlannedVariant],
    given: AtHand,
    toolchain: Toolchain,
    workspace: Workspace,
    threads: int,
    display: Display,
    *,
    stock: bool,
) -> list[Failure]:
    """Run the worker; keep each variant as soon as it is built. Return what failed."""
    log = workspace.log(f"{job.format}-build-{job.release.content_digest[:12]}")
    title = f"Building {', '.join(v.variant.name for v in todo)}"
    failures: list[Failure] = []
    staged = given.folder
    measured: Path | None = None
    if any(recipes.needs_matrix(v.variant) for v in todo):
        try:
            measured = importance_matrix.importance(
                job.release, given, toolchain, workspace=workspace, threads=threads, display=display
            )
        except WholeSourceError:
            raise
        except (BuildError, NotFiniteError) as error:  # as without a matrix: the reference says it of the release
            without = [v for v in todo if recipes.needs_matrix(v.variant)]
            failures += [failure(job.release.label, v.variant.name, "build", error) for v in without]
            todo = [v for v in todo if v not in without]
    if not todo:
        return failures
    waiting = {v.variant.name: v for v in todo}
    with workspace.scratch() as scratch, display.task(title) as task:
        (scratch / "worker").mkdir()
        outs = {v.variant.name: scratch / str(i) / "files" for i, v in enumerate(todo)}
        for out in outs.values():
            out.mkdir(parents=True)

        def failed(planned: PlannedVariant, message: str, kind: str = "toolchain") -> None:
            error_class, do = FORESEEN.get(kind, (BuildError, ""))
            see = f"{do} The toolchain's own output is in {log}.".lstrip()
            error = error_class(f"{planned.variant.name}: {message}", hint=see)
            failures.append(failure(job.release.label, planned.variant.name, "build", error))

        def on_event(event: dict[str, Json]) -> None:
            if event["event"] == "progress":
                task.update(event["what"], event["done"], event["total"], event["unit"])
                return
            if event["event"] == "note":
                display.say(f"{job.format}: {event['message']}")
                return
            planned = waiting.pop(event["variant"])
            shutil.rmtree(workspace.partial(planned.build_key, job.release), ignore_errors=True)
            if event["event"] == "failed":
                failed(planned, event["message"], event["kind"])
                return
            cost = Cost(seconds=event["seconds"], peak_memory=event["peak_memory"])
            folder = outs[planned.variant.name].parent
            matrix = importance_matrix.read(measured) if measured and recipes.needs_matrix(planned.variant) else None
            files = hash_files(folder / "files", task, event.get("hashed", {}))
            _keep(folder, planned, job.release, staged, toolchain, files, cost, matrix, workspace)

        build_task = BuildTask(
            source=str(staged),
            model_name=source.safe_name(job.release.name),
            targets=tuple(
                Target(
                    variant=v.variant,
                    out=str(outs[v.variant.name]),
                    partial=str(workspace.partial(v.build_key, job.release)),
                )
                for v in todo
            ),
            scratch=str(scratch / "worker"),
            threads=threads,
            stock=stock,
            streamed=given.stream is not None,
            importance=str(measured / importance_matrix.FILE) if measured else "",
        )
        try:
            given.run_worker(toolchain, worker_module(job.format), "build", build_task, log=log, on_event=on_event)
        except WholeSourceError:
            raise
        except BuildError as error:
            failures += [failure(job.release.label, name, "build", error) for name in waiting]
        else:
            for planned in waiting.values():
                failed(planned, "the toolchain ended without a file for it")
    return failures


def _keep(
    folder: Path,
    planned: PlannedVariant,
    release: Release,
    staged: Path,
    toolchain: Toolchain,
    files: tuple[FileEntry, ...],
    cost: Cost,
    matrix: Imatrix | None,
    workspace: Workspace,
) -> None:
    """Write the records beside the files and give the artifact its name."""
    form = all_formats()[planned.variant.format]
    created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    record = BuildRecord(
        build_key=planned.build_key,
        source=SourceRef(repo_id=release.repo_id, commit=release.commit, content_digest=release.content_digest),
        variant=planned.variant,
        toolchain=ToolchainRef(
            name=toolchain.name,
            lock_digest=toolchain.lock_digest,
            versions={p: toolchain.versions[p] for p in form.packages if p in toolchain.versions},
        ),
        files=files,
        cost=cost,
        bot_version=bot.__version__,
        created=created,
        path_in_repo=planned.path_in_repo,
        imatrix=matrix,
    )
    write_json(folder / "build.json", record.to_json())
    write_json(folder / "release.json", release.to_json())
    # Here, where the model is read: who publishes later renders no template of a stranger's.
    prompt = prompt_of(chat_format(staged), created)
    write_json(folder / "prompt.json", prompt.to_json())
    _copy_notices(staged, folder / "notices")
    final = _folder(workspace, planned, release)
    final.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(final)


def _copy_notices(staged: Path, notices: Path) -> None:
    """Keep the licence beside what is made from the model."""
    notices.mkdir()
    for name in sorted(source.NOTICES):
        if (staged / name).is_file():
            shutil.copyfile(staged / name, notices / name)
