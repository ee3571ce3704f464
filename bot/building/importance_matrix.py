"""The importance matrix: how much each input of the weights matters, measured once per release and shared."""

from pathlib import Path

from bot import catalogue, source, toolchains
from bot.building.computing import computing
from bot.building.release_at_hand import AtHand
from bot.context import Context
from bot.errors import BuildError
from bot.formats import recipes
from bot.formats.registry import worker_module
from bot.machines import worker_limits
from bot.printable import duration, size
from bot.progress import Task, show_event
from bot.records.artifacts import Imatrix, Json, Release, Variant
from bot.records.digests import digest_of
from bot.records.tasks import BuildTask, ImportanceTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import FORESEEN, Supervision, run_worker
from bot.workspace import read_record, write_json

RECORD = "imatrix.json"  #: in the folder of a matrix, beside the file of its format


def digest(release: Release, name: str) -> str:
    """Return the digest of all that decides a format's matrix: the model, the text, and what computes it."""
    return digest_of([release.content_digest, recipes.importance_digest(name), toolchains.lock_digest(name)])


def importance(release: Release, given: AtHand, toolchain: Toolchain, context: Context) -> Path:
    """Return the folder of a release's importance matrix in a format, measuring it first if that is not done yet.

    It holds the matrix (see ``file_in``), and ``imatrix.json``, an Imatrix. Measuring runs the variant that the format
    names: that of the working folder, or one that is made for it and removed. Raises what running a worker raises, for
    that variant what its worker says of it, and LookupError for a format that measures none.
    """
    name = toolchain.name
    offered, variant = recipes.importance_of(name), catalogue.all_variants()[recipes.measured_on(name)]
    workspace, display, threads = context.workspace, context.display, context.threads
    folder = workspace.importance(digest(release, name))
    if workspace.has(folder):
        return folder
    title = f"Measuring the importance of weights of {release.label}"
    with computing(folder, "importance", title, context) as at:
        if at is None:
            return folder
        text = at.scratch / recipes.TEXT
        text.write_text(recipes.text(), encoding="utf-8")
        files = workspace.artifact(recipes.key_of(release.content_digest, variant), release) / "files"
        if not files.is_dir():
            build = _request(release, variant, given, at.scratch, threads)
            files = _build(given, toolchain, build, at.log, at.task)
        request = ImportanceTask(
            variant=variant,
            model=str(_largest(files)),
            text=str(text),
            name=recipes.TEXT,
            out=str(at.out),
            threads=threads,
        )
        done: Json = run_worker(
            toolchain,
            worker_module(name),
            offered.command,
            request,
            Supervision(
                log=at.log,
                on_event=lambda e: _follow(at.task, e, variant),
                limits=worker_limits.task_limits(request, given.shape),
            ),
        )
        made = Imatrix(
            text=recipes.TEXT,
            text_sha256=recipes.text_digest(),
            sha256=done["sha256"],
            chunks=done["chunks"],
            tokens=done["tokens"],
        )
        write_json(at.out / RECORD, made.to_json())
    memory, seconds = size(done["peak_memory"]), duration(done["seconds"])
    display.say(f"Importance matrix: {done['tokens']} tokens, peak memory {memory}, {seconds}")
    return folder


def read(folder: Path) -> Imatrix:
    """Read what is known of a matrix. Raises RecordError when its folder is damaged."""
    return read_record(folder / RECORD, Imatrix)


def file_in(folder: Path, name: str) -> Path:
    """Return the matrix itself, a file of a format, in the folder of one."""
    return folder / recipes.importance_of(name).file


def _largest(files: Path) -> Path:
    """Return the file of a variant that holds its weights."""
    return max((f for f in files.iterdir() if f.is_file()), key=lambda file: (file.stat().st_size, file.name))


def _request(release: Release, variant: Variant, given: AtHand, scratch: Path, threads: int) -> BuildTask:
    out, worker = scratch / "model", scratch / "worker"
    out.mkdir()
    worker.mkdir()
    return BuildTask(
        source=str(given.folder),
        model_name=source.safe_name(release.name),
        targets=(Target(variant=variant, out=str(out)),),
        scratch=str(worker),
        threads=threads,
        streamed=given.stream is not None,
    )


def _build(given: AtHand, toolchain: Toolchain, request: BuildTask, log: Path, task: Task) -> Path:
    """Build the variant that is asked for, and return the folder of its files."""
    (target,) = request.targets
    module = worker_module(toolchain.name)
    given.run_worker(toolchain, module, "build", request, log=log, on_event=lambda e: _follow(task, e, target.variant))
    return Path(target.out)


def _follow(task: Task, event: dict[str, Json], variant: Variant) -> None:
    if event["event"] == "progress":
        show_event(task, event)
    elif event["event"] == "failed":
        kind, do = FORESEEN.get(event["kind"], (BuildError, ""))
        hint = f"{do} The importance of weights is measured on it.".lstrip()
        raise kind(f"{variant.name}: {event['message']}", hint=hint)
