"""The importance matrix: how much each input of the weights matters, measured once per release and shared."""

import hashlib
from pathlib import Path

from bot import catalogue, formats, source, texts, toolchains
from bot.errors import BuildError
from bot.fetch import AtHand
from bot.progress import Display, Task, duration, size
from bot.records import Imatrix, Json, Release, Variant, build_key, digest_of
from bot.tasks import BuildTask, ImportanceTask, Target
from bot.toolchains import Toolchain
from bot.toolchains.enter import run_worker
from bot.workspace import Workspace, read_record, write_json

FILE = "imatrix.gguf"  #: in the folder of a matrix: llama.cpp's own file
_VERSION = 1  # raise it when the worker measures something else on the same inputs
TEXT = "training.txt"  #: of bot/texts: never what models are measured on afterwards
_MODEL = "gguf/q8_0"  # as good as the original, at half the size


def needed(variant: Variant) -> bool:
    """Say whether a variant is built with an importance matrix."""
    return bool(variant.options.get("imatrix"))


def digest(release: Release) -> str:
    """Return the digest of all that decides the matrix: the model, the text, and what computes it."""
    return digest_of([_VERSION, release.content_digest, text_digest(), toolchains.lock_digest("gguf")])


def text_digest() -> str:
    """Return the sha256, in hex, of the text that is read."""
    return hashlib.sha256(_text().encode()).hexdigest()


def disk(release: Release, workspace: Workspace) -> int:
    """Return about how many bytes measuring takes for a while: those of the model that it runs."""
    if workspace.importance(digest(release)).exists():
        return 0
    return int(release.parameters * catalogue.all_variants()[_MODEL].bits_per_weight / 8)


def importance(
    release: Release, given: AtHand, toolchain: Toolchain, *, workspace: Workspace, threads: int, display: Display
) -> Path:
    """Return the folder of a release's importance matrix, measuring it first if that is not done yet.

    It holds ``imatrix.gguf``, as llama.cpp has it, and ``imatrix.json``, an Imatrix. Measuring runs the GGUF of 8 bits:
    that of the working folder, or one that is made for it and removed.
    """
    folder = workspace.importance(digest(release))
    if folder.exists():
        return folder
    with workspace.only_one(f"importance-{folder.name}", display):
        if folder.exists():
            return folder
        title = f"Measuring the importance of weights of {release.label}"
        with workspace.scratch() as scratch, display.task(title) as task:
            text, out = scratch / TEXT, scratch / "importance"
            text.write_text(_text(), encoding="utf-8")
            out.mkdir()
            log = workspace.log(f"importance-{folder.name[:12]}")
            model = _built(release, toolchain, workspace)
            if model is None:
                model = _build(release, given, toolchain, scratch, threads, log, task)
            request = ImportanceTask(model=str(model), text=str(text), name=TEXT, out=str(out), threads=threads)
            done: Json = run_worker(
                toolchain, "gguf", "importance", request, log=log, on_event=lambda e: _follow(task, e)
            )
            made = Imatrix(
                text=TEXT,
                text_sha256=text_digest(),
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


def _text() -> str:
    return "\n\n".join(texts.training())


def _built(release: Release, toolchain: Toolchain, workspace: Workspace) -> Path | None:
    """Return the GGUF of 8 bits that the working folder has."""
    variant = catalogue.all_variants()[_MODEL]
    key = build_key(
        content_digest=release.content_digest,
        variant=variant,
        toolchain_digest=toolchain.lock_digest,
        format_version=formats.all_formats()[variant.format].version,
    )
    return next((workspace.artifact(key, release) / "files").glob("*.gguf"), None)


def _build(
    release: Release, given: AtHand, toolchain: Toolchain, scratch: Path, threads: int, log: Path, task: Task
) -> Path:
    out, worker = scratch / "model", scratch / "worker"
    out.mkdir()
    worker.mkdir()
    request = BuildTask(
        source=str(given.folder),
        model_name=source.safe_name(release.name),
        targets=(Target(variant=catalogue.all_variants()[_MODEL], out=str(out)),),
        scratch=str(worker),
        threads=threads,
        streamed=given.stream is not None,
    )
    given.run_worker(toolchain, "gguf", "build", request, log=log, on_event=lambda e: _follow(task, e))
    return next(out.glob("*.gguf"))


def _follow(task: Task, event: dict[str, Json]) -> None:
    if event["event"] == "progress":
        task.update(event["what"], event["done"], event["total"], event["unit"])
    elif event["event"] == "failed":
        raise BuildError(f"{_MODEL}: {event['message']}", hint="The importance of weights is measured on it.")
