"""The importance matrix: how much each input of the weights matters, measured once per release and shared."""

from pathlib import Path

from bot import catalogue, source, toolchains
from bot.building.release_at_hand import AtHand
from bot.context import Context
from bot.errors import BuildError
from bot.formats import recipes
from bot.formats.registry import worker_module
from bot.machines import worker_limits
from bot.printable import duration, size
from bot.progress import Task
from bot.records.artifacts import Imatrix, Json, Release
from bot.records.digests import digest_of
from bot.records.tasks import BuildTask, ImportanceTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import FORESEEN, Supervision, run_worker
from bot.workspace import Workspace, read_record, write_json

FILE = "imatrix.gguf"  #: in the folder of a matrix: llama.cpp's own file


def digest(release: Release) -> str:
    """Return the digest of all that decides the matrix: the model, the text, and what computes it."""
    return digest_of([release.content_digest, recipes.importance_digest(), toolchains.lock_digest("gguf")])


def importance(release: Release, given: AtHand, toolchain: Toolchain, context: Context) -> Path:
    """Return the folder of a release's importance matrix, measuring it first if that is not done yet.

    It holds ``imatrix.gguf``, as llama.cpp has it, and ``imatrix.json``, an Imatrix. Measuring runs the GGUF of 8 bits:
    that of the working folder, or one that is made for it and removed. Raises what running a worker raises, and for
    that GGUF what its worker says of it.
    """
    workspace, display, threads = context.workspace, context.display, context.threads
    folder = workspace.importance(digest(release))
    if workspace.has(folder):
        return folder
    with workspace.only_one(f"importance-{folder.name}", display):
        if workspace.has(folder):
            return folder
        title = f"Measuring the importance of weights of {release.label}"
        with workspace.scratch() as scratch, display.task(title) as task:
            text, out = scratch / recipes.TEXT, scratch / "importance"
            text.write_text(recipes.text(), encoding="utf-8")
            out.mkdir()
            log = workspace.log(f"importance-{folder.name[:12]}")
            model = _built(release, workspace)
            if model is None:
                model = _build(given, toolchain, _request(release, given, scratch, threads), log, task)
            request = ImportanceTask(model=str(model), text=str(text), name=recipes.TEXT, out=str(out), threads=threads)
            done: Json = run_worker(
                toolchain,
                worker_module("gguf"),
                "importance",
                request,
                Supervision(
                    log=log, on_event=lambda e: _follow(task, e), limits=worker_limits.task_limits(request, given.shape)
                ),
            )
            made = Imatrix(
                text=recipes.TEXT,
                text_sha256=recipes.text_digest(),
                sha256=done["sha256"],
                chunks=done["chunks"],
                tokens=done["tokens"],
            )
            write_json(out / "imatrix.json", made.to_json())
            folder.parent.mkdir(parents=True, exist_ok=True)
            out.rename(folder)
        memory, seconds = size(done["peak_memory"]), duration(done["seconds"])
        display.say(f"Importance matrix: {done['tokens']} tokens, peak memory {memory}, {seconds}")
    return folder


def read(folder: Path) -> Imatrix:
    """Read what is known of a matrix. Raises RecordError when its folder is damaged."""
    return read_record(folder / "imatrix.json", Imatrix)


def _built(release: Release, workspace: Workspace) -> Path | None:
    """Return the GGUF of 8 bits that the working folder has."""
    key = recipes.key_of(release.content_digest, catalogue.all_variants()[recipes.MEASURED_ON])
    return next((workspace.artifact(key, release) / "files").glob("*.gguf"), None)


def _request(release: Release, given: AtHand, scratch: Path, threads: int) -> BuildTask:
    out, worker = scratch / "model", scratch / "worker"
    out.mkdir()
    worker.mkdir()
    return BuildTask(
        source=str(given.folder),
        model_name=source.safe_name(release.name),
        targets=(Target(variant=catalogue.all_variants()[recipes.MEASURED_ON], out=str(out)),),
        scratch=str(worker),
        threads=threads,
        streamed=given.stream is not None,
    )


def _build(given: AtHand, toolchain: Toolchain, request: BuildTask, log: Path, task: Task) -> Path:
    """Build the GGUF of 8 bits that is asked for, and return it."""
    given.run_worker(toolchain, worker_module("gguf"), "build", request, log=log, on_event=lambda e: _follow(task, e))
    return next(Path(request.targets[0].out).glob("*.gguf"))


def _follow(task: Task, event: dict[str, Json]) -> None:
    if event["event"] == "progress":
        task.update(event["what"], event["done"], event["total"], event["unit"])
    elif event["event"] == "failed":
        kind, do = FORESEEN.get(event["kind"], (BuildError, ""))
        hint = f"{do} The importance of weights is measured on it.".lstrip()
        raise kind(f"{recipes.MEASURED_ON}: {event['message']}", hint=hint)
