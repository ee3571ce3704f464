"""The reference: what the original model says, computed once per release and shared by all formats."""

from functools import partial
from pathlib import Path

from bot import texts, toolchains
from bot.building.computing import computing
from bot.building.release_at_hand import AtHand
from bot.context import Context
from bot.printable import duration, size
from bot.progress import show_event
from bot.records.artifacts import Json, Release
from bot.records.digests import digest_of
from bot.records.tasks import ReferenceTask
from bot.toolchains.install import ensure

_VERSION = 10  # raise it when the worker computes something else from the same inputs


def digest(release: Release) -> str:
    """Return the digest of all that decides the reference: the model, the texts, and what computes it."""
    return digest_of([_VERSION, release.content_digest, texts.digest(), toolchains.lock_digest("reference")])


def reference(release: Release, given: AtHand, context: Context) -> Path:
    """Return the folder of a release's reference, computing it first if that is not done yet."""
    workspace, display = context.workspace, context.display
    folder = workspace.reference(digest(release))
    if workspace.has(folder):
        return folder
    toolchain = ensure("reference", display)
    title = f"Computing the reference of {release.label}"
    with computing(folder, "reference", title, context) as at:
        if at is None:
            return folder
        with given.as_written() as written:
            request = ReferenceTask(
                source=str(written.folder),
                out=str(at.out),
                threads=context.threads,
                streamed=written.stream is not None,
                tokenizer=str(given.folder),  # transformers reads a Phi's otherwise where it takes it for a Llama's
            )
            done: Json = written.run_worker(
                toolchain, "bot.worker.reference", "compute", request, log=at.log, on_event=partial(show_event, at.task)
            )
    memory, seconds = size(done["peak_memory"]), duration(done["seconds"])
    display.say(f"Reference: {done['scored']} positions, peak memory {memory}, {seconds}")
    return folder
