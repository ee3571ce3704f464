"""Build: one job, in its toolchain. What comes out is in the working folder, whole or not at all."""

import datetime as dt
import shutil
from collections.abc import Sequence
from pathlib import Path

import bot
from bot import cards, formats, source
from bot.errors import BuildError
from bot.fetch import fetch, missing_bytes
from bot.hub.client import Hub
from bot.plans import Job, PlannedVariant
from bot.progress import Display, Task
from bot.records import BuildRecord, Cost, Failure, Json, Release, Report, SourceRef, ToolchainRef
from bot.steps.failures import failure
from bot.tasks import BuildTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import run_worker
from bot.toolchains.install import ensure
from bot.workspace import Workspace, hash_files, read_artifact, write_json


def build(job: Job, *, workspace: Workspace, hub: Hub, threads: int, display: Display) -> Report:
    """Build the variants of a job that are not built yet, and return all of its artifacts.

    A variant that its toolchain cannot build becomes a Failure, and the others go on. Raises DiskTooSmallError before
    anything is written, DiskFullError, and what ``fetch`` and ``toolchains.install.ensure`` raise.
    """
    release = job.release
    _need_disk(job, workspace)
    staged = fetch(release, workspace=workspace, hub=hub, display=display)
    toolchain = ensure(job.format, display)
    with workspace.only_one(f"{job.format}-{release.content_digest[:16]}", display):
        todo = [v for v in job.variants if not _folder(workspace, v, release).exists()]
        failures = _run(job, todo, staged, toolchain, workspace, threads, display) if todo else []
    failed = {f.variant for f in failures}
    built = [v for v in job.variants if v.variant.name not in failed]
    artifacts = tuple(read_artifact(_folder(workspace, v, release)) for v in built)
    return Report(artifacts=artifacts, failures=tuple(failures))


def _need_disk(job: Job, workspace: Workspace) -> None:
    needed = job.estimate.output + job.estimate.disk + missing_bytes(job.release, workspace)
    if any(not _folder(workspace, v, job.release).exists() for v in job.variants):
        workspace.need_disk(needed, f"Building {len(job.variants)} {job.format} variants of {job.release.label}")


def _folder(workspace: Workspace, planned: PlannedVariant, release: Release) -> Path:
    return workspace.artifact(planned.build_key, release)


def _run(
    job: Job,
    todo: Sequence[PlannedVariant],
    staged: Path,
    toolchain: Toolchain,
    workspace: Workspace,
    threads: int,
    display: Display,
) -> list[Failure]:
    """Run the worker; keep each variant as soon as it is built. Return what failed."""
    log = workspace.log(f"{job.format}-build-{job.release.content_digest[:12]}")
    title = f"Building {', '.join(v.variant.name for v in todo)}"
    failures: list[Failure] = []
    waiting = {v.variant.name: v for v in todo}
    with workspace.scratch() as scratch, display.task(title) as task:
        (scratch / "worker").mkdir()
        outs = {v.variant.name: scratch / str(i) / "files" for i, v in enumerate(todo)}
        for out in outs.values():
            out.mkdir(parents=True)

        def failed(planned: PlannedVariant, message: str) -> None:
            error = BuildError(f"{planned.variant.name}: {message}", hint=f"The toolchain's own output is in {log}.")
            failures.append(failure(job.release.label, planned.variant.name, "build", error))

        def on_event(event: dict[str, Json]) -> None:
            if event["event"] == "progress":
                task.update(event["what"], event["done"], event["total"], event["unit"])
                return
            planned = waiting.pop(event["variant"])
            if event["event"] == "failed":
                failed(planned, event["message"])
                return
            cost = Cost(seconds=event["seconds"], peak_memory=event["peak_memory"])
            folder = outs[planned.variant.name].parent
            _keep(folder, planned, job.release, staged, toolchain, cost, workspace, task)

        build_task = BuildTask(
            source=str(staged),
            model_name=source.safe_name(job.release.name),
            targets=tuple(Target(variant=v.variant, out=str(outs[v.variant.name])) for v in todo),
            scratch=str(scratch / "worker"),
            threads=threads,
        )
        try:
            run_worker(toolchain, job.format, "build", build_task, log=log, on_event=on_event)
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
    cost: Cost,
    workspace: Workspace,
    task: Task,
) -> None:
    """Write the records beside the files and give the artifact its name."""
    form = formats.all_formats()[planned.variant.format]
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
        files=hash_files(folder / "files", task),
        cost=cost,
        bot_version=bot.__version__,
        created=created,
        path_in_repo=planned.path_in_repo,
    )
    write_json(folder / "build.json", record.to_json())
    write_json(folder / "release.json", release.to_json())
    # Here, where the model is read: who publishes later renders no template of a stranger's.
    prompt = cards.prompt_of(cards.chat_format(staged), created)
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
