"""Second moments of what each matrix is multiplied with: collected once per release, and shared by all formats."""

from functools import partial
from pathlib import Path

from bot.building.computing import computing
from bot.building.release_at_hand import AtHand
from bot.context import Context
from bot.formats import recipes
from bot.printable import duration, size
from bot.progress import show_event
from bot.records.artifacts import Calibration, Json, Release
from bot.records.digests import digest_of
from bot.records.tasks import MomentsTask
from bot.toolchains.install import ensure
from bot.workspace import read_record, write_json

RECORD = "calibration.json"  #: in the folder of a release's moments


def digest(release: Release) -> str:
    """Return the digest of all that decides the moments: the model, the text, and what computes them."""
    return digest_of([release.content_digest, recipes.calibration_digest()])


def moments(release: Release, given: AtHand, context: Context) -> Path:
    """Return the folder of a release's moments (see bot/worker/moments.py), collecting them if that is not done yet.

    Beside them is ``calibration.json``, a Calibration. Raises what running a worker raises.
    """
    workspace, display = context.workspace, context.display
    folder = workspace.moments(digest(release))
    if workspace.has(folder):
        return folder
    toolchain = ensure("reference", display)
    title = f"Reading the calibration text with {release.label}"
    with computing(folder, "moments", title, context) as at:
        if at is None:
            return folder
        text = at.scratch / recipes.TEXT
        text.write_text(recipes.text(), encoding="utf-8")
        request = MomentsTask(
            source=str(given.folder),
            text=str(text),
            out=str(at.out),
            threads=context.threads,
            streamed=given.stream is not None,
        )
        done: Json = given.run_worker(
            toolchain, "bot.worker.collect", "collect", request, log=at.log, on_event=partial(show_event, at.task)
        )
        made = Calibration(
            text=recipes.TEXT, text_sha256=recipes.text_digest(), tokens=done["tokens"], sha256=done["sha256"]
        )
        write_json(at.out / RECORD, made.to_json())
    memory, seconds = size(done["peak_memory"]), duration(done["seconds"])
    display.say(f"Calibration: {done['tokens']} tokens, peak memory {memory}, {seconds}")
    return folder


def read(folder: Path) -> Calibration:
    """Read what is known of the moments in a folder. Raises RecordError when it is damaged."""
    return read_record(folder / RECORD, Calibration)
